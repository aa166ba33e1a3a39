"""The claims about all placements ever: true of every sound history, false of each broken one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import Placement, StateChange
from fleet.placement_history import (
    PlacementRecord,
    find_double_placements,
    find_missing_epochs,
    find_stale_epochs,
)

AT = datetime(2026, 3, 1, tzinfo=UTC)


def row(
    number: int, agent_id: str, node_id: str, epoch: int, term: int = 1, change_id: int = 0
) -> PlacementRecord:
    """One stored epoch."""
    return PlacementRecord(
        number, agent_id, node_id, "eu", epoch, term, "running", "why", AT, change_id
    )


def change(number: int, agent_id: str, epoch: int) -> StateChange:
    """One stored state."""
    return StateChange(number, agent_id, number, epoch, 1, "digest", AT)


def placed(agent_id: str, epoch: int) -> Placement:
    """A placement as stored now."""
    return Placement(agent_id, "net", "w", "n", "eu", epoch, 1, "running", "why", AT)


@st.composite
def sound_histories(draw: st.DrawFn) -> tuple[list[PlacementRecord], list[StateChange]]:
    """What a store that refuses every stale epoch leaves behind; the beginning may be trimmed."""
    epochs = {name: draw(st.integers(0, 3)) for name in "abc"}
    terms = dict.fromkeys(epochs, 0)
    rows: list[PlacementRecord] = []
    changes: list[StateChange] = []
    for _ in range(draw(st.integers(0, 25))):
        name = draw(st.sampled_from("abc"))
        if draw(st.booleans()):
            epochs[name] += 1
            terms[name] += draw(st.integers(0, 1))
            node = draw(st.sampled_from(["n1", "n2", ""]))
            rows.append(row(len(rows) + 1, name, node, epochs[name], terms[name], len(changes)))
        elif epochs[name]:
            changes.append(change(len(changes) + 1, name, epochs[name]))
    return rows, changes


@given(sound_histories())
def test_a_sound_history_has_no_breach(
    history: tuple[list[PlacementRecord], list[StateChange]],
) -> None:
    """Agents moved back and forth, parked, written between: nothing is reported."""
    rows, changes = history
    assert find_double_placements(rows) == []
    assert find_stale_epochs(rows, changes) == []
    newest = {one.agent_id: one.epoch for one in rows}
    assert find_missing_epochs(rows, [placed(*item) for item in newest.items()]) == []


@given(sound_histories())
def test_one_forged_row_or_state_is_found(
    history: tuple[list[PlacementRecord], list[StateChange]],
) -> None:
    """A second node for an epoch, an epoch again, a lower term, a lost row, a late stale state."""
    rows, changes = history
    for index, one in enumerate(rows):
        other = one._replace(node_id="n9")
        assert find_double_placements([*rows, other])
        again = one._replace(history_id=len(rows) + 1)
        assert find_stale_epochs([*rows, again]), "an epoch that was stored a second time"
        if one.epoch > 1:
            late = change(len(changes) + 1, one.agent_id, one.epoch - 1)
            assert find_stale_epochs(rows, [*changes, late])
        mine = [other.epoch for other in rows if other.agent_id == one.agent_id]
        if min(mine) < one.epoch < max(mine):
            assert find_missing_epochs([*rows[:index], *rows[index + 1 :]])
        assert find_missing_epochs(rows, [placed(one.agent_id, max(mine) + 1)])


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([row(1, "a", "n1", 1, 5), row(2, "a", "n2", 2, 4)], "under term 4, after term 5"),
        ([row(1, "a", "n1", 3), row(2, "a", "n2", 2)], "stored as 2, after epoch 3 as 1"),
        ([row(1, "a", "n1", 3), row(2, "a", "n1", 3)], "stored as 2, after epoch 3 as 1"),
    ],
)
def test_a_breach_names_both_sides(rows: list[PlacementRecord], problem: str) -> None:
    """Whoever reads it at night sees what contradicts what."""
    (breach,) = find_stale_epochs(rows)
    assert problem in breach.problem
    assert breach.agent_id == "a"


def test_a_fall_is_reported_of_the_row_that_fell_and_not_of_those_after_it() -> None:
    """3, 2, 4: one breach; 4 is above everything before it."""
    rows = [row(1, "a", "n1", 3), row(2, "a", "n2", 2), row(3, "a", "n3", 4)]
    assert [breach.epoch for breach in find_stale_epochs(rows)] == [2]


def test_two_nodes_of_one_epoch_are_named() -> None:
    """Parked is no node; the same row exported twice is one row."""
    rows = [row(1, "a", "n1", 1), row(1, "a", "n1", 1), row(2, "a", "", 1)]
    (breach,) = find_double_placements(rows)
    assert breach.problem == "given to node n1 and to (none)"
    assert find_stale_epochs([rows[0], rows[0]]) == []


def test_a_state_under_the_old_epoch_just_before_the_move_is_no_breach() -> None:
    """The change number of the move is the last that the old copy could get."""
    rows = [row(1, "a", "n1", 1, change_id=0), row(2, "a", "n2", 2, change_id=7)]
    assert find_stale_epochs(rows, [change(7, "a", 1), change(8, "a", 2)]) == []
    (breach,) = find_stale_epochs(rows, [change(8, "a", 1)])
    assert "after the move to epoch 2 at change 7" in breach.problem
    assert find_stale_epochs(rows, [change(9, "b", 1)]) == []


def test_thirty_thousand_agents_are_judged_in_one_pass() -> None:
    """Linear: three rows of each of 30,000 agents, and their states."""
    rows = [
        row(epoch * 30_000 + number, f"a{number}", f"n{epoch}", epoch, change_id=number)
        for epoch in (1, 2, 3)
        for number in range(30_000)
    ]
    changes = [change(number, f"a{number}", 3) for number in range(30_000)]
    assert find_double_placements(rows) == find_stale_epochs(rows, changes) == []
    assert find_missing_epochs(rows) == []
