"""A week of slices covers everything once, and a seed always draws the same sample."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.verification_sampling import (
    SLICES,
    is_in_parts,
    part_of,
    sample_size,
    select_snapshots,
    slice_of,
)


@given(st.dates(max_value=date(9999, 12, 1)), st.binary(min_size=32, max_size=32))
def test_any_seven_days_in_a_row_look_at_every_object_once(day: date, name: bytes) -> None:
    """Over month, year and leap day."""
    week = [slice_of(day + timedelta(days=number)) for number in range(SLICES)]
    assert sorted(week) == list(range(SLICES))
    assert sum(is_in_parts(name.hex(), [part]) for part in week) == 1
    assert is_in_parts(name.hex(), None)
    assert is_in_parts(name.hex(), {part_of(name.hex())})


@given(st.lists(st.uuids().map(str), max_size=20, unique=True), st.integers())
def test_the_newest_snapshot_is_always_chosen_and_one_older_one(live: list[str], seed: int) -> None:
    """By seed; with a single snapshot only that one."""
    chosen = select_snapshots(live, seed)
    assert chosen == select_snapshots(live, seed)
    assert len(chosen) == len(set(chosen)) == min(2, len(live))
    assert not live or chosen[0] == live[-1] or len(live) == 1
    assert set(chosen) <= set(live)


def test_every_older_snapshot_is_chosen_by_some_seed() -> None:
    """No age is left out for ever."""
    live = [f"s{number}" for number in range(20)]
    assert {select_snapshots(live, seed)[1] for seed in range(500)} == set(live[:-1])


@given(st.integers(0, 10**6), st.floats(0.0001, 1))
def test_a_sample_is_never_empty_and_never_larger_than_the_whole(items: int, share: float) -> None:
    """One per cent of three agents is one agent."""
    assert min(1, items) <= sample_size(items, share) <= items
    assert sample_size(items, 1.0) == items


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_outside_of_one_is_refused(share: float) -> None:
    """Nothing is verified by a sample of nothing."""
    with pytest.raises(InvalidInputError, match="sample_share"):
        sample_size(5, share)
