"""Windows merged from any division of the samples into records equal those of the samples."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from fleet.metrics.answers import Windows, runs_of_records, runs_of_samples
from fleet.metrics.record import RollupColumns
from fleet.metrics.samples import SampleBatch, stale_marker
from tests.fakes.metric_reader import Record, columns_of, rolled_up, sample_record

BUCKET = 10
values = st.one_of(
    st.integers(-5, 5).map(float),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e16, -1e16, 2.0**53, 0.1]),
)
series = st.lists(st.dictionaries(st.integers(1, 200), values), min_size=1, max_size=3)
ends = st.lists(st.integers(0, 22), min_size=1, max_size=6, unique=True)


def records_of(points: list[dict[int, float]]) -> list[list[Record]]:
    """Buckets of ten milliseconds of each series."""
    return [
        rolled_up([sample_record(n, ts, one[ts]) for ts in sorted(one)], BUCKET)
        for n, one in enumerate(points)
    ]


def batch_of(points: list[dict[int, float]]) -> SampleBatch:
    """The samples themselves, a stale marker among them."""
    rows = [(n, ts, one[ts]) for n, one in enumerate(points) for ts in sorted(one)]
    rows += [(len(points) - 1, 1000, stale_marker())]
    ids, times, values = zip(*rows, strict=True)
    return SampleBatch(np.array(ids), np.array(times), np.array(values, np.float64))


def falls(times: list[int], values: list[float]) -> list[tuple[int, int]]:
    """Times of neighbours of which the later one is lower."""
    pairs = pairwise(zip(times, values, strict=True))
    return [(a, b) for (a, before), (b, after) in pairs if after < before]


def same(one: float, other: float, tolerance: float = 0.0) -> bool:
    """Equal, or both no number."""
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == other or math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)


@given(points=series, ends=ends, length=st.integers(1, 12))
@example(points=[{10: 0.0}], ends=[2], length=1)  # a sample at the start is not of the window
def test_records_and_samples_give_the_same_windows(
    points: list[dict[int, float]], ends: list[int], length: int
) -> None:
    """Counts, first and last, resets, changes, extremes and sums; windows overlap or leave gaps.

    What a counter has counted, too: of samples, and of buckets with a reset each, to the bit.
    """
    ids = np.arange(len(points), dtype=np.int64)
    stops = BUCKET * np.array(ends, np.int64)
    starts = stops - BUCKET * length
    columns: RollupColumns = columns_of([one for rows in records_of(points) for one in rows])
    with np.errstate(all="ignore"):
        raw = Windows(runs_of_samples(ids, batch_of(points)), starts, stops)
        merged = Windows(runs_of_records(ids, columns), starts, stops)
        assert raw.at.tolist() == merged.at.tolist()
        for name in ("n", "first", "last", "first_ms", "last_ms", "resets", "changes",
                     "minimum", "maximum"):  # fmt: skip
            one, other = getattr(raw, name).tolist(), getattr(merged, name).tolist()
            assert all(map(same, one, other)), name
        for at, window in enumerate(raw.at):
            row, step = divmod(int(window), len(ends))
            inside = [ts for ts in sorted(points[row]) if starts[step] < ts <= stops[step]]
            some = [points[row][ts] for ts in inside]
            assert raw.n[at] == len(some)
            resets = [a for a, b in pairwise(some) if b < a]
            assert raw.resets[at] == len(resets)
            risen = some[-1] - some[0]
            for before in resets:  # as Prometheus does, one after another
                risen += before
            assert same(raw.risen[at], risen)
            fell = [(-a // BUCKET, -b // BUCKET) for a, b in falls(inside, some)]
            if all(count == 1 for (a, b), count in Counter(fell).items() if a == b):
                assert same(merged.risen[at], risen)
            if all(map(math.isfinite, some)):
                rounding = sum(map(abs, some)) * len(some) * 2.0**-52
                assert math.isclose(merged.risen[at], risen, rel_tol=0, abs_tol=rounding)
                exact = float(sum(map(Fraction, some)))
                assert same(raw.total[at], exact, 1e-9)
                assert same(merged.total[at], exact, 1e-9)


@given(points=st.lists(st.integers(-1000, 1000).map(float), min_size=1, max_size=60))
def test_spreads_of_samples_and_of_records_are_those_of_exact_arithmetic(
    points: list[float],
) -> None:
    """Variance within 1e-9 of the fraction."""
    one = {n + 1: value for n, value in enumerate(points)}
    mean = sum(map(Fraction, points)) / len(points)
    exact = float(sum((Fraction(v) - mean) ** 2 for v in points))
    ids, start, stop = np.array([0]), np.array([0]), np.array([200])
    columns = columns_of(records_of([one])[0])
    for runs in (runs_of_samples(ids, batch_of([one])), runs_of_records(ids, columns)):
        assert math.isclose(Windows(runs, start, stop).m2[0], exact, rel_tol=1e-9, abs_tol=1e-9)


def test_averages_of_values_whose_sum_overflows_are_right() -> None:
    """1e308 three times averages to 1e308, not to infinity."""
    one = {1: 1e308, 2: 1e308, 3: 1e308}
    ids, start, stop = np.array([0]), np.array([0]), np.array([200])
    with np.errstate(all="ignore"):
        raw = Windows(runs_of_samples(ids, batch_of([one])), start, stop)
        merged = Windows(runs_of_records(ids, columns_of(records_of([one])[0])), start, stop)
        assert math.isclose(raw.mean[0], 1e308)
        assert math.isclose(merged.mean[0], 1e308)
