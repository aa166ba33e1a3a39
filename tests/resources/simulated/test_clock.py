"""Virtual time is exact, aware, and moves only forward and only when told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from resources.simulated.clock import VirtualClock


@settings(deadline=None)
@given(st.lists(st.integers(0, 10_000_000), max_size=30))
def test_slices_of_whole_microseconds_add_up_exactly(slices_us: list[int]) -> None:
    """However time is sliced, the sum is the same moment."""
    clock = VirtualClock()
    for slice_us in slices_us:
        clock.advance(slice_us / 1_000_000)
    assert clock.elapsed_us == sum(slices_us)
    assert clock.now() - clock.start == timedelta(microseconds=sum(slices_us))
    assert clock.monotonic_s() == sum(slices_us) / 1_000_000


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e12])
def test_time_never_goes_back_or_to_nowhere(seconds: float) -> None:
    """A refused step leaves the clock alone."""
    clock = VirtualClock()
    with pytest.raises(InvalidInputError, match="seconds"):
        clock.advance(seconds)
    assert clock.elapsed_us == 0


def test_advancing_to_a_moment_that_is_over_changes_nothing() -> None:
    """`advance_to` is a floor, not a jump."""
    clock = VirtualClock()
    clock.advance_to(5)
    clock.advance_to(3)
    assert clock.elapsed_us == 5


def test_a_naive_start_is_refused() -> None:
    """Times of the fleet are aware."""
    with pytest.raises(InvalidInputError, match="aware"):
        VirtualClock(datetime(2026, 1, 1))  # noqa: DTZ001
    assert VirtualClock(datetime(2026, 1, 1, tzinfo=UTC)).now().tzinfo is UTC
