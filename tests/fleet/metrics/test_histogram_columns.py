"""Native histograms in columns against the plain twin, and records of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.metrics.histogram_columns import (
    HistogramSamples,
    are_equal,
    are_resets,
    bucket_bounds,
    concat_histograms,
    reduce_resolution,
    scaled,
    sum_groups,
    take_histograms,
    validate_histograms,
    widen_zero,
)
from fleet.metrics.histogram_records import (
    HistogramRecords,
    merge_histograms,
    roll_up_histograms,
)
from fleet.metrics.samples import stale_marker
from tests.fleet.metrics import plain_histograms as plain
from tests.fleet.metrics.plain_histograms import NativeHistogram, in_columns, one_by_one
from tests.fleet.metrics.test_native_histograms import observe

OBSERVED = st.lists(st.sampled_from([0.0, 0.001, 0.3, 1.0, 2.0, 2.1, 70.0, -0.5, -9.0]), max_size=8)
HISTOGRAMS = st.builds(
    observe, OBSERVED, st.integers(-2, 4), st.sampled_from([0.001, 0.0, 0.25, 1.5])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(HISTOGRAMS, min_size=1, max_size=5), st.integers(-4, -2), st.floats(0.0, 80.0))
def test_columns_do_what_the_twin_does_one_by_one(
    some: list[NativeHistogram], schema: int, threshold: float
) -> None:
    """Coarser schemas, wider zero buckets, taking, joining and scaling."""
    columns, count = in_columns(some), len(some)
    assert one_by_one(columns) == some
    coarse = reduce_resolution(columns, np.full(count, schema))
    assert one_by_one(coarse) == [plain.reduce_resolution(one, schema) for one in some]
    wide = widen_zero(columns, np.full(count, threshold))
    assert one_by_one(wide) == [plain.widen_zero(one, threshold) for one in some]
    back = np.arange(count)[::-1]
    assert one_by_one(take_histograms(columns, back)) == some[::-1]
    assert one_by_one(concat_histograms([columns, coarse]))[:count] == some
    doubled = one_by_one(scaled(columns, np.full(count, 2.0)))
    assert [one.observations for one in doubled] == [2 * one.observations for one in some]


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.lists(HISTOGRAMS, min_size=2, max_size=2),
        st.lists(st.builds(observe, OBSERVED, st.integers(-2, 4), st.just(0.001)), min_size=2),
    )
)
def test_sums_and_differences_are_those_of_the_twin(some: list[NativeHistogram]) -> None:
    """All of a group at once equals one after another, but for the order of sums of floats."""
    columns = in_columns(some)
    total = some[0]
    for one in some[1:]:
        total = plain.add(total, one)
    groups = np.zeros(len(some), np.int64)
    _equal(one_by_one(sum_groups(columns, groups, 1))[0], total)
    weights = np.array([1.0, -1.0])
    two = take_histograms(columns, slice(0, 2))
    difference = one_by_one(sum_groups(two, groups[:2], 1, weights))[0]
    _equal(difference, plain.subtract(some[0], some[1]))


def _equal(one: NativeHistogram, other: NativeHistogram) -> None:
    assert one._replace(total=0) == other._replace(total=0)
    assert math.isclose(one.total, other.total, abs_tol=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(HISTOGRAMS, HISTOGRAMS, st.booleans()), min_size=1, max_size=5))
def test_resets_are_those_of_the_twin(
    pairs: list[tuple[NativeHistogram, NativeHistogram, bool]],
) -> None:
    """Of many pairs at once; half of them grow, so that not all are resets. So is equality."""
    before = [one for one, _, __ in pairs]
    now = [plain.add(one, other) if grows else other for one, other, grows in pairs]
    found = are_resets(in_columns(now), in_columns(before))
    assert found.tolist() == [plain.is_reset(*pair) for pair in zip(now, before, strict=True)]
    same = are_equal(in_columns(now), in_columns(before))
    assert same.tolist() == [one == other for one, other in zip(now, before, strict=True)]


def _points(schema: int) -> st.SearchStrategy[list[tuple[int, NativeHistogram]]]:
    """Points of one series: of one schema, or of one zero bucket."""
    same = st.builds(observe, OBSERVED, st.just(schema), st.sampled_from([0.001, 0.25, 1.5]))
    some = st.builds(observe, OBSERVED, st.integers(-2, 4), st.just(0.001))
    times = st.integers(1, 40)
    one, other = (
        st.lists(st.tuples(times, each), max_size=12, unique_by=lambda point: point[0])
        for each in (same, some)
    )
    return one | other


# Where both resolution and zero bucket differ among more than two, the order of adding matters, in
# Prometheus as here.
SERIES = st.integers(-2, 4).flatmap(_points)


@settings(max_examples=60, deadline=None)
@given(st.lists(SERIES, min_size=1, max_size=3))
def test_records_are_those_of_the_twin_at_every_level(
    series: list[list[tuple[int, NativeHistogram]]],
) -> None:
    """Made from samples, and merged from records of shorter buckets."""
    rows = [(at, ts, one) for at, points in enumerate(series) for ts, one in sorted_by_time(points)]
    samples = HistogramSamples(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        in_columns([row[2] for row in rows]),
    )
    short = roll_up_histograms(samples, 5)
    for length, found in ((5, short), (20, merge_histograms(short, 20))):
        wanted = [
            (at, end, record)
            for at, points in enumerate(series)
            for end, record in plain.roll_up_histograms(sorted_by_time(points), length).items()
        ]
        _same_records(found, plain.records_in_columns(wanted))


def sorted_by_time(
    points: list[tuple[int, NativeHistogram]],
) -> list[tuple[int, NativeHistogram]]:
    """Points in order of time."""
    return sorted(points, key=lambda point: point[0])


def _same_records(found: HistogramRecords, wanted: HistogramRecords) -> None:
    for name in ("series_ids", "ends_ms", "n", "first_ms", "last_ms", "resets"):
        assert getattr(found, name).tolist() == getattr(wanted, name).tolist(), name
    for name in ("first", "last", "reset_sum"):
        one, other = getattr(found, name), getattr(wanted, name)
        for pair in zip(one_by_one(one), one_by_one(other), strict=True):
            _equal(*pair)


def test_a_stale_marker_is_in_no_record() -> None:
    """It says that the series ended, and is no sample."""
    ended = observe([], 0)._replace(total=stale_marker())
    samples = HistogramSamples(
        np.array([1, 1]), np.array([10, 20]), in_columns([observe([1.0], 0), ended])
    )
    assert roll_up_histograms(samples, 60).n.tolist() == [1]


def test_bounds_are_those_of_prometheus_at_the_ends_of_the_range() -> None:
    """The last bucket before infinity ends at the largest double; negative ones are mirrored."""
    one = NativeHistogram(0, 0.0, 0, 4, 0.0, {1: 1, 1024: 1, 1025: 1}, {2: 1})
    low, high = bucket_bounds(in_columns([one]))
    largest = float(np.finfo(np.float64).max)
    assert low.tolist() == [-4.0, 1.0, 2.0**1023, largest]
    assert high.tolist() == [-2.0, 2.0, largest, math.inf]


def test_histograms_that_break_the_rules_are_refused_by_name() -> None:
    """Schema, threshold, counts, order of buckets."""
    sound = observe([1.0, 2.0], 0)
    validate_histograms(in_columns([sound]))
    for field, broken in (
        ("schema", sound._replace(schema=9)),
        ("zero_threshold", sound._replace(zero_threshold=-1.0)),
        ("zero_count", sound._replace(zero_count=-1)),
        ("bucket", sound._replace(positive={1: -2})),
        ("key", sound._replace(positive={2**21: 1})),
    ):
        with pytest.raises(InvalidInputError) as caught:
            validate_histograms(in_columns([sound, broken]))
        assert caught.value.field == field
    with pytest.raises(InvalidInputError, match="detail"):
        reduce_resolution(in_columns([sound]), np.array([1]))
