"""Running statistics agree with the textbook, in any split of the stream."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stateroom_agent.running_statistics import RunningStatistics

VALUES = st.lists(st.floats(-1e9, 1e9), max_size=60)


def _of(values: list[float]) -> RunningStatistics:
    found = RunningStatistics()
    for value in values:
        found.add(value)
    return found


def _agree(found: RunningStatistics, values: list[float]) -> None:
    assert found.count == len(values)
    if values:
        size = max(abs(value) for value in values) + 1.0
        assert math.isclose(found.mean, statistics.fmean(values), abs_tol=1e-9 * size)
        assert (found.minimum, found.maximum, found.last) == (min(values), max(values), values[-1])
    if len(values) > 1:
        size = max(abs(value) for value in values) + 1.0
        assert math.isclose(found.deviation(), statistics.stdev(values), abs_tol=1e-6 * size)


@given(VALUES)
def test_one_stream_agrees_with_the_two_pass_formulas(values: list[float]) -> None:
    """Mean, deviation, least, greatest, last."""
    _agree(_of(values), values)


@given(VALUES, VALUES, VALUES)
def test_merged_parts_agree_with_the_whole(
    first: list[float], second: list[float], third: list[float]
) -> None:
    """In either grouping; empty parts change nothing."""
    left = _of(first)
    left.merge(_of(second))
    left.merge(_of(third))
    right, tail = _of(first), _of(second)
    tail.merge(_of(third))
    right.merge(tail)
    _agree(left, first + second + third)
    _agree(right, first + second + third)


@given(VALUES)
def test_the_dictionary_holds_everything(values: list[float]) -> None:
    """Stored and read back, it goes on as if nothing had been."""
    found = _of(values)
    again = RunningStatistics.from_dict(found.as_dict())
    assert again.as_dict() == found.as_dict()


def test_a_missing_number_is_an_error() -> None:
    """Half of the statistics are none."""
    with pytest.raises(KeyError):
        RunningStatistics.from_dict({"count": 1})
