"""histogram_quantile against a plain transcription of its rules, one histogram at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.metrics.labels import labels_of
from fleet.promql.histograms import SMALL_DELTA, TINIEST, histogram_quantile
from fleet.promql.label_table import table_of
from fleet.promql.semantics import PROMETHEUS_2, PROMETHEUS_3, Semantics
from fleet.promql.values import Scalar, Vector

Buckets = dict[str, float]
counts = st.one_of(
    st.integers(0, 20).map(float),
    st.sampled_from([10.0, 10.0 * (1 + 1e-13), 10.0 * (1 - 1e-13), 0.0, 1e-320, 7.000000000000001]),
)
bounds = st.sampled_from(["-1", "0", "0.5", "1", "1.0", "1e0", "2.5", "10", "+Inf", "Inf", "x"])
histograms = st.lists(
    st.dictionaries(bounds, st.lists(counts | st.none(), min_size=2, max_size=2)), max_size=3
)


def almost_equal(one: float, other: float) -> bool:
    """Whether two counts differ by rounding only."""
    size, apart = abs(one) + abs(other), abs(one - other)
    if one == 0 or other == 0 or size < TINIEST:
        return apart < SMALL_DELTA * TINIEST
    return apart / size < SMALL_DELTA


def plain_quantile(q: float, buckets: Buckets, semantics: Semantics) -> float | None:
    """The rules, step by step; None where there is no histogram."""
    added: dict[float, float] = {}
    for text, count in buckets.items():
        if text != "x":
            added[float(text)] = added.get(float(text), 0.0) + count
    if not added:
        return None
    if math.isnan(q) or not 0 <= q <= 1:
        return math.inf if q > 1 else -math.inf if q < 0 else math.nan
    rows = sorted(added.items())
    rising = [rows[0][1]]
    for _, count in rows[1:]:
        same = semantics.small_deltas_ignored and almost_equal(rising[-1], count)
        rising.append(count if count > rising[-1] and not same else rising[-1])
    if rows[-1][0] != math.inf or len(rows) < 2 or rising[-1] == 0:
        return math.nan
    return plain_place([bound for bound, _ in rows], rising, q * rising[-1])


def plain_place(bounds: list[float], rising: list[float], rank: float) -> float:
    """Where a rank lies among the buckets."""
    at = next((n for n, count in enumerate(rising[:-1]) if count >= rank), len(rising) - 1)
    if at == len(rising) - 1:
        return bounds[-2]
    if at == 0 and bounds[0] <= 0:
        return bounds[0]
    start, before = (bounds[at - 1], rising[at - 1]) if at else (0.0, 0.0)
    return start + (bounds[at] - start) * plain_share(rank - before, rising[at] - before)


def plain_share(part: float, whole: float) -> float:
    """Division as a processor divides: by zero it is no error."""
    with np.errstate(all="ignore"):
        return float(np.float64(part) / np.float64(whole))


@given(
    found=histograms,
    q=st.sampled_from([0.0, 0.1, 0.5, 0.99, 1.0, -0.5, 1.5, math.nan]),
    semantics=st.sampled_from([PROMETHEUS_2, PROMETHEUS_3]),
)
def test_quantiles_are_those_of_the_rules(
    found: list[dict[str, list[float | None]]], q: float, semantics: Semantics
) -> None:
    """Any buckets, in any order, present at some of two steps, twice written, not monotonic."""
    rows = [
        (labels_of("h", {"le": bound, "pod": str(n)}), values)
        for n, buckets in enumerate(found)
        for bound, values in buckets.items()
    ]
    values = np.array([[v or 0.0 for v in row] for _, row in rows]).reshape(-1, 2)
    present = np.array([[v is not None for v in row] for _, row in rows], np.bool_).reshape(-1, 2)
    labels = table_of(len(rows), lambda: [labels for labels, _ in rows])
    with np.errstate(all="ignore"):
        answer = histogram_quantile(
            Scalar(np.array([q, q])), Vector(labels, values, present), semantics
        )
    ours = {
        (dict(labels)["pod"], step): answer.values[row, step]
        for row, labels in enumerate(answer.labels.all_labels())
        for step in range(2)
        if answer.present[row, step]
    }
    for n, buckets in enumerate(found):
        for step in range(2):
            here = {bound: v[step] for bound, v in buckets.items()}
            there = {bound: v for bound, v in here.items() if v is not None}
            expected = plain_quantile(q, there, semantics)
            if expected is None:
                assert (str(n), step) not in ours
            else:
                assert same(ours.pop((str(n), step)), expected)
    assert not ours


def same(one: float, other: float) -> bool:
    """Equal, both no number, or within rounding."""
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == other or math.isclose(one, other, rel_tol=1e-12)


def test_differences_by_rounding_are_ignored_by_version_3_only() -> None:
    """A bucket higher by 1e-14 of itself moves the median from 1 to 2 in 2.x."""
    counts = {"1": 5.0, "2": 5.0 * (1 + 1e-14), "+Inf": 10.0 * (1 + 1e-14)}
    assert plain_quantile(0.5, counts, PROMETHEUS_3) == pytest.approx(2)
    labels = [labels_of("h", {"le": bound}) for bound in counts]
    vector = Vector(
        table_of(3, lambda: labels), np.array([[v] for v in counts.values()]), np.ones((3, 1), bool)
    )
    with np.errstate(all="ignore"):
        for semantics in (PROMETHEUS_2, PROMETHEUS_3):
            answer = histogram_quantile(Scalar(np.array([0.5])), vector, semantics)
            assert same(answer.values[0, 0], plain_quantile(0.5, counts, semantics) or 0.0)
