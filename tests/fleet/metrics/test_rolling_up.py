"""Records: from samples, from records, and against a dumb twin."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.metrics.levels import Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.rolling_up import Intervals, compensated_sums, merge, merge_runs, roll_up
from fleet.metrics.samples import stale_marker
from tests.examples import examples
from tests.fleet.metrics.plain_records import Plain, assert_alike, plain_of, plain_roll_up, same

Sample = tuple[int, int, float]

VALUES = st.one_of(
    st.integers(-1000, 1000).map(float),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.1, 0.25, -0.0, 1e16, -1e16, 2.0**52]),
)
WILD = st.one_of(VALUES, st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324]))


def streams(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[Sample]]:
    """Samples of up to three series, ordered, with gaps of up to two hours."""
    gaps = st.one_of(st.integers(1, 30_000), st.integers(1, 7_200_000), st.just(60_000))
    one = st.lists(st.tuples(gaps, values), max_size=40)

    def placed(series: list[list[tuple[int, float]]]) -> list[Sample]:
        return [
            (which, ts_ms, value)
            for which, steps in enumerate(series)
            for ts_ms, (_, value) in zip(accumulate(gap for gap, _ in steps), steps, strict=True)
        ]

    return st.lists(one, max_size=3).map(placed)


def rolled(samples: list[Sample], length_ms: int) -> RollupColumns:
    """Records of samples."""
    ids, ts_ms, values = zip(*samples, strict=True) if samples else ((), (), ())
    return roll_up(np.array(ids, np.int64), np.array(ts_ms, np.int64), np.array(values), length_ms)


@given(streams(VALUES), st.sampled_from([Level.M1, Level.M5, Level.H1]))
def test_records_are_what_the_definition_says(samples: list[Sample], level: Level) -> None:
    """Column by column against one bucket at a time in plain Python."""
    assert_alike(plain_of(rolled(samples, level)), plain_roll_up(samples, level))


@given(streams(WILD), st.sampled_from([Level.M1, Level.H1]))
def test_no_value_spoils_what_it_does_not_touch(samples: list[Sample], level: Level) -> None:
    """NaN, infinities and overflows stay in their bucket's sums; the rest of the row is exact."""
    found = plain_of(rolled(samples, level))
    wanted = plain_roll_up(samples, level)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        for name in ("n", "minimum", "maximum", "first", "last", "resets", "changes"):
            assert same(getattr(one, name), getattr(other, name)), name
        if math.isfinite(one.total) and math.isfinite(other.total):
            assert math.isclose(one.total, other.total, rel_tol=1e-12, abs_tol=1e-300)


@given(streams(VALUES))
def test_rolling_up_in_steps_equals_rolling_up_at_once(samples: list[Sample]) -> None:
    """1m -> 5m -> 1h -> 1d gives what the samples give, whatever lies between."""
    rows = rolled(samples, Level.M1)
    for finer, coarser in zip(list(Level), list(Level)[1:], strict=False):
        rows = merge(rows, finer, coarser)
        assert_alike(plain_of(rows), plain_roll_up(samples, coarser))


@given(streams(VALUES), st.randoms(use_true_random=False))
def test_merging_is_associative(samples: list[Sample], order: object) -> None:
    """Neighbours may be merged in any grouping."""
    rows = rolled(samples, Level.M1)
    starts = np.flatnonzero(np.diff(rows.series_ids, prepend=-1))
    cuts = [at for at in range(len(rows)) if at in starts or order.random() < 0.4]  # type: ignore[attr-defined]  # Random
    grouped = merge_runs(rows, np.array(cuts, np.int64))
    again = np.flatnonzero(np.diff(grouped.series_ids, prepend=-1))
    once, twice = merge_runs(rows, starts), merge_runs(grouped, again)
    assert_alike(plain_of(twice), plain_of(once))


def test_a_sum_keeps_what_doubles_lose() -> None:
    """The pair holds the 2 that both directions of plain addition lose."""
    rows = rolled([(1, 1, 1e16), (1, 2, 1.0), (1, 3, 1.0), (1, 4, -1e16)], Level.M1)
    assert rows.total[0] + rows.total_low[0] == 2.0
    halves = rolled([(1, 1, 1e16), (1, 2, 1.0), (1, 60_001, 1.0), (1, 60_002, -1e16)], Level.M1)
    merged = merge(halves, Level.M1, Level.M5)
    assert merged.total[0] + merged.total_low[0] == 2.0


@settings(max_examples=examples(30))
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=200), st.integers(0, 3))
def test_sums_of_long_and_short_runs_are_equally_exact(values: list[float], more: int) -> None:
    """Runs that are finished value by value agree with those added by columns."""
    rows = [values, *([values[:3]] * (20 * more))]
    lengths = np.array([len(each) for each in rows])
    high, low = compensated_sums(np.concatenate(rows), np.cumsum(lengths) - lengths, lengths)
    for each, a, b in zip(rows, high.tolist(), low.tolist(), strict=True):
        assert math.isclose(a + b, math.fsum(each), rel_tol=1e-15, abs_tol=1e-22)


def test_a_stale_marker_is_no_sample() -> None:
    """It neither counts nor changes the last value; a bucket of nothing else has no row."""
    rows = rolled([(1, 1, 5.0), (1, 2, stale_marker()), (2, 1, stale_marker())], Level.M1)
    assert (rows.series_ids.tolist(), rows.n.tolist(), rows.last.tolist()) == ([1], [1], [5.0])


def test_a_reset_is_found_inside_a_bucket_and_across_its_border() -> None:
    """Increase over both is last - first + what stood before each reset."""
    samples = [(1, 10, 5.0), (1, 20, 9.0), (1, 30, 2.0), (1, 60_010, 1.0), (1, 60_020, 4.0)]
    rows = merge(rolled(samples, Level.M1), Level.M1, Level.M5)
    assert (rows.resets.tolist(), rows.reset_sum.tolist()) == ([2], [11.0])
    assert rows.last[0] - rows.first[0] + rows.reset_sum[0] == 4 + 2 + 1 + 3


def test_a_sample_at_a_border_belongs_to_the_bucket_that_ends_there() -> None:
    """Buckets are (start, end]."""
    rows = rolled([(1, 60_000, 1.0), (1, 60_001, 2.0)], Level.M1)
    assert rows.ends_ms.tolist() == [60_000, 120_000]


def test_coverage_comes_from_the_interval() -> None:
    """Known intervals say what was expected, at every level; unknown ones say NaN."""
    intervals = Intervals(np.array([1, 3]), np.array([15_000.0, np.nan]))
    ids, ts_ms = np.array([1, 1, 2, 3]), np.array([1, 400_000, 1, 1])
    rows = roll_up(ids, ts_ms, np.ones(4), Level.M1, intervals)
    assert rows.expected[:2].tolist() == [4.0, 4.0]
    assert np.isnan(rows.expected[2:]).all()
    hour = merge(merge(rows, Level.M1, Level.M5), Level.M5, Level.H1)
    assert hour.expected[0] == 240.0
    assert hour.n[0] == 2


def test_no_sample_gives_no_record() -> None:
    """Neither from samples nor from records."""
    rows = rolled([], Level.M1)
    assert (len(rows), len(merge(rows, Level.M1, Level.H1))) == (0, 0)


def test_a_mean_survives_a_sum_that_overflows() -> None:
    """As Prometheus' average does."""
    rows = rolled([(1, 1, 1.5e308), (1, 60_001, 1.5e308)], Level.M5)
    assert rows.mean[0] == pytest.approx(1.5e308)
    halves = merge(rolled([(1, 1, 1.5e308), (1, 60_001, 1.5e308)], Level.M1), Level.M1, Level.M5)
    assert halves.mean[0] == pytest.approx(1.5e308)


def test_the_twin_is_not_blind() -> None:
    """A wrong row fails the comparison."""
    right = plain_roll_up([(1, 1, 1.0), (1, 2, 2.0)], Level.M1)
    wrong = [Plain(*right[0])._replace(resets=1)]
    with pytest.raises(AssertionError):
        assert_alike(wrong, right)


@pytest.mark.parametrize("level", [Level.M1, Level.H1])
def test_where_samples_are_divided_into_blocks_does_not_matter(
    level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut never goes through a bucket, whatever the block's size."""
    rng = np.random.default_rng(3)
    ids = np.repeat(np.arange(5), 300)
    ts_ms = np.cumsum(rng.integers(1, 90_000, (5, 300)), axis=1).ravel()
    values = np.round(rng.normal(0, 1e6, 1500), 3)
    whole = roll_up(ids, ts_ms, values, level)
    for block in (1, 7, 299, 1499, 1500):
        monkeypatch.setattr("fleet.metrics.rolling_up._BLOCK", block)
        found = roll_up(ids, ts_ms, values, level)
        for name in RollupColumns.__dataclass_fields__:
            assert getattr(found, name).tobytes() == getattr(whole, name).tobytes(), (name, block)
    rows = list(zip(ids.tolist(), ts_ms.tolist(), values.tolist(), strict=True))
    assert_alike(plain_of(whole), plain_roll_up(rows, level))


def test_a_long_bucket_is_counted_as_exactly_as_a_short_one() -> None:
    """Thousands of samples in one bucket beside buckets of one: sums, resets and changes."""
    rng = np.random.default_rng(4)
    long = [(1, at + 1, float(value)) for at, value in enumerate(rng.normal(0, 1e9, 3000))]
    short = [(2, 60_000 * at + 1, at / 10) for at in range(40)]
    rows = rolled([*long, *short], Level.H1)
    assert_alike(plain_of(rows), plain_roll_up([*long, *short], Level.H1))
    assert rows.resets[0] > 1000
    assert rows.total[0] + rows.total_low[0] == pytest.approx(
        math.fsum(value for _, _, value in long), rel=1e-15
    )
