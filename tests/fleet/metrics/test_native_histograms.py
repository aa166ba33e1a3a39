"""The twin of native histograms: what it says is what was observed."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from tests.fleet.metrics.plain_histograms import (
    HistogramRecord,
    NativeHistogram,
    add,
    increase,
    is_reset,
    merge_records,
    record_of,
    reduce_resolution,
    roll_up_histograms,
    subtract,
    upper_bound,
    widen_zero,
)

OBSERVED = st.lists(
    st.one_of(st.floats(-1000, 1000), st.sampled_from([0.0, 1.0, 2.0, 0.001])), max_size=30
)
SCHEMAS = st.integers(-2, 4)


def observe(values: list[float], schema: int, threshold: float = 0.001) -> NativeHistogram:
    """A histogram of values, each put into its bucket by comparing with bounds."""
    bounds = [upper_bound(index, schema) for index in range(-200, 201)]
    sides: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    zeros, total = 0, 0.0
    for value in values:
        total += value  # `sum` rounds otherwise from Python 3.12 on
        if abs(value) <= threshold:
            zeros += 1
        else:
            sides[value < 0][bisect_left(bounds, abs(value)) - 200] += 1
    return NativeHistogram(
        schema, threshold, zeros, len(values), total, dict(sides[0]), dict(sides[1])
    )


@given(OBSERVED, SCHEMAS, SCHEMAS)
def test_a_coarser_schema_is_what_would_have_been_observed_in_it(
    values: list[float], schema: int, other: int
) -> None:
    """Reducing loses detail and nothing else."""
    fine, coarse = max(schema, other), min(schema, other)
    assert reduce_resolution(observe(values, fine), coarse) == observe(values, coarse)


@given(OBSERVED, OBSERVED, SCHEMAS, SCHEMAS)
def test_adding_two_is_observing_both(
    one: list[float], other: list[float], schema: int, another: int
) -> None:
    """In the smaller schema; subtracting one gives the other back."""
    a, b = observe(one, schema), observe(other, another)
    both = add(a, b)
    wanted = observe([*one, *other], min(schema, another))
    assert both._replace(total=0) == wanted._replace(total=0)
    assert subtract(both, a)._replace(total=0) == reduce_resolution(b, both.schema)._replace(
        total=0
    )


def test_a_wider_zero_bucket_takes_in_what_lies_inside() -> None:
    """A threshold within a populated bucket moves to its bound, for no bucket can be divided."""
    one = observe([0.5, 3.0, -0.5, 40.0], 0)
    wide = widen_zero(one, 1.0)
    assert (wide.zero_threshold, wide.zero_count) == (1.0, 2)
    within = widen_zero(one, 3.0)
    assert (within.zero_threshold, within.zero_count) == (4.0, 3)
    assert widen_zero(one, 0.0001) == one
    assert add(one, observe([3.0], 0, threshold=2.0)).zero_count == 2


@given(OBSERVED, OBSERVED, SCHEMAS)
def test_a_counter_that_only_grows_is_never_reset(
    before: list[float], more: list[float], schema: int
) -> None:
    """Neither by more observations nor by a coarser schema or a wider zero bucket."""
    now = observe([*before, *more], schema)
    assert not is_reset(now, observe(before, schema))
    assert not is_reset(reduce_resolution(now, -4), observe(before, schema))
    assert not is_reset(widen_zero(now, 64.0), observe(before, schema)) or (
        widen_zero(observe(before, schema), 64.0).zero_threshold
        != widen_zero(now, 64.0).zero_threshold
    )


def test_whatever_a_counter_cannot_do_is_a_reset() -> None:
    """Fewer observations, in any bucket; more detail; a narrower zero bucket."""
    before = observe([1.0, 2.0, 2.0, 0.0], 2, threshold=0.5)
    assert is_reset(observe([1.0], 2, threshold=0.5), before)
    assert is_reset(observe([1.0, 1.0, 2.0, 0.0, 9.0], 2, threshold=0.5), before)
    assert is_reset(observe([1.0, 2.0, 2.0, 9.0, 9.0], 2, threshold=0.5), before)
    assert is_reset(observe([1.0, 2.0, 2.0, 0.0], 3, threshold=0.5), before)
    assert is_reset(observe([1.0, 2.0, 2.0, 0.0], 2, threshold=0.25), before)
    assert is_reset(observe([1.0, 2.0, 2.0, 0.0], 2, threshold=1.9), before)
    assert not is_reset(before, before)


def test_a_record_counts_over_resets() -> None:
    """Increase is everything that was observed after the first histogram."""
    lives = [[1.0], [1.0, 2.0], [3.0], [3.0, 4.0, 4.0]]
    samples = [(10 * at, observe(values, 1)) for at, values in enumerate(lives, start=1)]
    records = roll_up_histograms(samples, 1000)
    assert list(records) == [1000]
    record = records[1000]
    assert (record.n, record.resets, record.first_ms, record.last_ms) == (4, 1, 10, 40)
    assert increase(record)._replace(total=0) == observe([2.0, 3.0, 4.0, 4.0], 1)._replace(total=0)


@given(st.lists(OBSERVED, min_size=3, max_size=6), st.lists(SCHEMAS, min_size=6, max_size=6))
def test_merging_records_is_associative(lives: list[list[float]], schemas: list[int]) -> None:
    """Whatever is merged first, the record is the same but for the rounding of sums."""
    records = [
        record_of(at, observe(values, schema))
        for at, (values, schema) in enumerate(zip(lives, schemas, strict=False))
    ]
    left = records[0]
    for each in records[1:]:
        left = merge_records(left, each)
    right = records[-1]
    for each in reversed(records[:-1]):
        right = merge_records(each, right)
    assert without_sums(left) == without_sums(right)


def without_sums(record: HistogramRecord) -> HistogramRecord:
    """A record without what addition rounds."""
    reset_sum = record.reset_sum and record.reset_sum._replace(total=0)
    return record._replace(reset_sum=reset_sum)


def test_no_detail_can_be_added() -> None:
    """A finer schema than a histogram's own is refused."""
    with pytest.raises(InvalidInputError, match="detail"):
        reduce_resolution(observe([1.0, 2.0], 0), 1)
