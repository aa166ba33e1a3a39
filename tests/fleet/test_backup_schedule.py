"""A missed duty is made up for once, and a network without agents is looked at ever more rarely."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.backup_schedule import (
    LATE_AFTER,
    LOOK_FIRST_S,
    LOOK_LAST_S,
    FirstLook,
    decide_catch_up,
    is_look_due,
    select_first_snapshots,
)
from ops.backup_jobs import partition_runs

AT = datetime(2026, 11, 20, 14, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("late", "newest", "request_", "words"),
    [
        (timedelta(0), None, True, "due at"),
        (LATE_AFTER, AT + timedelta(minutes=1), True, "due at"),
        (5 * HOUR, None, True, "5.0 h ago: made up for"),
        (5 * HOUR, AT - HOUR, True, "made up for"),
        (5 * HOUR, AT, False, "a run began"),
        (5 * HOUR, AT + HOUR, False, "a run began"),
    ],
)
def test_a_tick_runs_unless_it_is_late_and_somebody_was_faster(
    late: timedelta, newest: datetime | None, request_: bool, words: str
) -> None:
    """A tick in time runs whatever ran before; a missed one only if nothing ran since."""
    verdict = decide_catch_up(AT, newest, AT + late)
    assert verdict.request is request_
    assert words in verdict.reason


@given(st.lists(st.floats(1.0, 60.0), min_size=200, max_size=200))
def test_looks_are_neither_too_close_nor_too_far_apart(passes: list[float]) -> None:
    """Between two looks lie at least the first pause, and never more than the last and a pass."""
    now, last = AT, None
    looks = []
    for seconds in passes:
        if is_look_due(last, ("net",), now):
            looks.append(now)
            last = FirstLook(now, last.began_at if last else now, ("net",))
        now += timedelta(seconds=seconds)
    pauses = [(b - a).total_seconds() for a, b in itertools.pairwise(looks)]
    assert all(LOOK_FIRST_S <= pause <= LOOK_LAST_S + 60.0 for pause in pauses)


def test_a_change_of_what_is_missing_is_looked_at_at_once() -> None:
    """A network that was just declared does not wait for another one's patience."""
    last = FirstLook(AT, AT - HOUR, ("a",))
    assert not is_look_due(last, ("a",), AT)
    assert is_look_due(last, ("a", "b"), AT)
    assert not is_look_due(last, (), AT)


def test_only_networks_with_something_to_back_up_get_a_first_snapshot() -> None:
    """In the order of the declaration."""
    assert select_first_snapshots(["c", "a", "b"], {"b", "c", "x"}) == ("c", "b")


@given(st.sets(st.integers(0, 12)))
def test_runs_cover_exactly_what_is_due_in_as_few_ranges_as_possible(due: set[int]) -> None:
    """Neighbours share a run; nothing between two ranges is taken along."""
    declared = [f"n{number:02d}" for number in range(13)]
    runs = partition_runs(declared, {declared[number] for number in due})
    covered = [
        number
        for first, last in runs
        for number in range(declared.index(first), declared.index(last) + 1)
    ]
    assert covered == sorted(due)
    assert len(runs) == sum(number - 1 not in due for number in due)
