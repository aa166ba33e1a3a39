"""A dumb twin of records: one bucket at a time, in plain Python, after the definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fleet.metrics.record import RollupColumns


class Plain(NamedTuple):
    """One record, sums exact."""

    series_id: int
    end_ms: int
    n: int
    total: float
    minimum: float
    maximum: float
    first_ms: int
    first: float
    last_ms: int
    last: float
    reset_sum: float
    resets_whole: bool
    resets: int
    changes: int
    mean: float
    m2: float


def plain_roll_up(samples: Sequence[tuple[int, int, float]], length_ms: int) -> list[Plain]:
    """Records of (series, time, value) without stale markers; ordered by series and time."""
    buckets: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for series, ts_ms, value in samples:
        end = math.ceil(ts_ms / length_ms) * length_ms
        buckets.setdefault((series, end), []).append((ts_ms, value))
    return [_record(series, end, inside) for (series, end), inside in sorted(buckets.items())]


def _record(series: int, end: int, inside: list[tuple[int, float]]) -> Plain:
    values = [value for _, value in inside]
    real = [value for value in values if not math.isnan(value)]
    steps = list(pairwise(values))
    resets = [before for before, after in steps if after < before]
    total = _sum(values)
    mean = total / len(values)
    return Plain(
        series,
        end,
        len(values),
        total,
        min(real) if real else math.nan,
        max(real) if real else math.nan,
        inside[0][0],
        inside[0][1],
        inside[-1][0],
        inside[-1][1],
        sum(resets),
        all(value in {math.inf, -math.inf} or value % 1 == 0 for value in resets),
        len(resets),
        sum(a != b and not (math.isnan(a) and math.isnan(b)) for a, b in steps),
        mean,
        _sum([(value - mean) * (value - mean) for value in values]),
    )


def _sum(values: list[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        with np.errstate(all="ignore"):
            return float(np.sum(values))


def plain_of(rows: RollupColumns) -> list[Plain]:
    """Columns as plain records."""
    columns = (
        rows.series_ids, rows.ends_ms, rows.n, rows.total + rows.total_low, rows.minimum,
        rows.maximum, rows.first_ms, rows.first, rows.last_ms, rows.last, rows.reset_sum,
        rows.resets_whole, rows.resets, rows.changes, rows.mean, rows.m2,
    )  # fmt: skip
    return [Plain(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def assert_alike(
    found: list[Plain], wanted: list[Plain], scale: float = 1.0, spread: float = 1e-12
) -> None:
    """Equal in all that is exact; sums, means and squares within rounding of the largest value.

    Args:
        found: records.
        wanted: what they should be.
        scale: least size of values that rounding is measured by.
        spread: how far squares may lie off, as part of them.
    """
    assert [one[:3] for one in found] == [one[:3] for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        for name in ("minimum", "maximum", "first_ms", "first", "last_ms", "last", "resets_whole",
                     "resets", "changes"):  # fmt: skip
            assert same(getattr(one, name), getattr(other, name)), (name, one, other)
        size = max(scale, abs(other.minimum), abs(other.maximum))
        if not math.isfinite(size):
            continue
        assert abs(one.total - other.total) <= 1e-15 * abs(other.total) + 1e-28 * size, (one, other)
        assert math.isclose(one.reset_sum, other.reset_sum, rel_tol=1e-12)
        assert abs(one.mean - other.mean) <= 1e-14 * size
        assert abs(one.m2 - other.m2) <= spread * (other.m2 + size * size * 1e-3)


def same(one: float, other: float) -> bool:
    """Equal, or both NaN."""
    return one == other or (one != one and other != other)  # noqa: PLR0124  NaN
