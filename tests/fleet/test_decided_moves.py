"""Moves that earlier leaders decided are counted once, and rather too many than too few."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.decided_moves import (
    FACT,
    DecidedMove,
    DecisionRow,
    fold_decided_moves,
    move_fact,
    move_key,
)

NOW_US = 1_800_000_000_000_000


def row(
    age_s: float = 10.0, agents: int = 5, step: str = "decided/move_node", *, early: bool = False,
    subject: str = "eu-1", incident: str = "node-eu-1", attempt: int = 1,
) -> DecisionRow:  # fmt: skip
    """A decision of so many seconds ago, written under a clock that is a day behind."""
    decided_us = NOW_US - round(age_s * 1e6)
    fact = move_fact(agents, "eu", decided_us, early=early, attempt=attempt)
    detail = json.dumps({"rule": "terminated", FACT: fact})
    return DecisionRow(incident, step, subject, decided_us - 86_400_000_000, detail)


def test_a_decided_move_is_read_back_with_its_age_by_the_clock_of_the_store() -> None:
    """Whatever the clock of its leader said."""
    assert fold_decided_moves([row()], NOW_US, 600.0) == [
        DecidedMove("node/eu-1:node-eu-1", "node/eu-1", "eu", 5, 10.0)
    ]


def test_further_attempts_of_one_move_are_no_news() -> None:
    """A repeated order moves nobody twice; the move is as old as its decision."""
    again = [row(5.0, attempt=2), row(30.0), row(1.0, attempt=3)]
    assert [one.age_s for one in fold_decided_moves(again, NOW_US, 600.0)] == [30.0]
    assert fold_decided_moves([row(5.0, attempt=2), row(600.0)], NOW_US, 600.0) == []


def test_an_attempt_whose_first_decision_is_missing_counts_from_the_oldest_there_is() -> None:
    """The first could not be written down, so it was not ordered."""
    rows = [row(5.0, attempt=3), row(20.0, attempt=2)]
    assert [one.age_s for one in fold_decided_moves(rows, NOW_US, 600.0)] == [20.0]


def test_a_move_that_is_decided_anew_counts_from_then_with_the_most_agents() -> None:
    """By a leader that took over, or of a node that died again in the same incident."""
    rows = [row(590.0, 9), row(20.0, 4, step="decided/move_node.1800000000000000")]
    [found] = fold_decided_moves(rows, NOW_US, 600.0)
    assert (found.age_s, found.agents) == (20.0, 9)


def test_agents_that_went_ahead_are_a_move_of_their_own() -> None:
    """What may run twice is moved before the fence, the rest behind it."""
    found = fold_decided_moves([row(20.0, 3), row(30.0, 2, early=True)], NOW_US, 600.0)
    assert [(one.key, one.agents) for one in found] == [
        (move_key("node/eu-1", "node-eu-1", early=True), 2),
        (move_key("node/eu-1", "node-eu-1", early=False), 3),
    ]


def test_nodes_that_share_an_incident_are_moves_of_their_own() -> None:
    """Nodes of a region that was lost and is not any more."""
    rows = [row(subject=name, incident="region-eu") for name in ("eu-1", "eu-2")]
    found = fold_decided_moves(rows, NOW_US, 600.0)
    assert [one.subject for one in found] == ["node/eu-1", "node/eu-2"]


@pytest.mark.parametrize(
    "detail",
    ["", "{}", "[1]", '{"move": 3}', '{"rule": "terminated"}', '{"move": {"agents": "x"}}'],
)
def test_a_move_that_cannot_be_read_is_of_unknown_size(detail: str) -> None:
    """An older version's, or a damaged one: its time is the journal's."""
    unread = DecisionRow("node-eu-1", "decided/move_node", "eu-1", NOW_US - 2_000_000, detail)
    [found] = fold_decided_moves([unread], NOW_US, 600.0)
    assert (found.agents, found.age_s) == (None, 2.0)


def test_a_fence_that_moves_nobody_counts_for_nothing_and_a_forced_one_is_a_move() -> None:
    """The run of a forced fence moves the agents as well."""
    told = DecisionRow("node-eu-1", "decided/fence_node", "eu-1", NOW_US, '{"rule": "fencing"}')
    assert fold_decided_moves([told], NOW_US, 600.0) == []
    assert len(fold_decided_moves([row(step="decided/fence_node")], NOW_US, 600.0)) == 1


def test_a_move_that_seems_to_come_from_the_future_has_just_been_made() -> None:
    """It must not leave the window sooner for that."""
    [found] = fold_decided_moves([row(-50.0)], NOW_US, 600.0)
    assert found.age_s == 0.0


@given(
    st.lists(
        st.tuples(st.integers(0, 900), st.integers(0, 9), st.sampled_from(["a", "b", "c"]),
                  st.sampled_from(["i", "j"]), st.booleans())
    )
)  # fmt: skip
def test_every_move_of_the_window_is_there_once_in_the_order_of_their_ages(
    drawn: list[tuple[int, int, str, str, bool]],
) -> None:
    """Against grouping by hand."""
    rows = [
        row(age, agents, subject=name, incident=incident, early=early)
        for age, agents, name, incident, early in drawn
    ]
    first: dict[tuple[str, str, bool], int] = {}
    for age, _, name, incident, early in drawn:
        first[name, incident, early] = min(age, first.get((name, incident, early), 1000))
    found = fold_decided_moves(rows, NOW_US, 600.0)
    assert sorted(one.age_s for one in found) == sorted(
        float(age) for age in first.values() if age < 600
    )
    assert [one.age_s for one in found] == sorted((one.age_s for one in found), reverse=True)
