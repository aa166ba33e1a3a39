"""Nodes that are alike are judged at once; a twin that judges each by itself says the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.failover.decide import decide
from fleet.failover.late import Late
from fleet.failover.mark_table import MarkTable
from fleet.failover.profiles import PRODUCTION
from fleet.failover.records import Decision, FailoverState, NodeMark, NodeState
from fleet.failover.rules import Rule
from fleet.failover.state_json import decode_state, encode_state
from tests.fleet.failover import watched_fleet
from tests.fleet.failover.one_by_one import decide_one_by_one
from tests.fleet.failover.rule_scenarios import SCENARIOS
from tests.fleet.failover.test_random_search import _search
from tests.fleet.failover.watched_fleet import WatchedFleet


def _decide_twice(evidence: Any, state: FailoverState, *rest: Any, **options: Any) -> Decision:
    """Decide as the controller does, and node by node from a memory that shares nothing."""
    found = decide(evidence, state, *rest, **options)
    apart = replace(state, nodes=dict(state.nodes.items()))
    twin = decide_one_by_one(evidence, apart, *rest, **options)
    assert found.actions == twin.actions
    assert found.non_actions == twin.non_actions
    assert len(found.transitions) == len(tuple(found.transitions))
    assert tuple(found.transitions) == tuple(twin.transitions)
    assert found.state == twin.state
    assert found.frozen_by == twin.frozen_by
    assert found.controller is twin.controller
    return found


@pytest.fixture(autouse=True)
def _twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tick of a watched fleet is decided by both."""
    monkeypatch.setattr(watched_fleet, "decide", _decide_twice)


@pytest.mark.parametrize("seed", range(5000, 5006))
def test_a_random_history_is_decided_alike_node_by_node(seed: int) -> None:
    """Actions, non-actions, transitions with their values, and memory are equal in each tick."""
    _search(seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(10_000, 11_000, 100))
def test_many_random_histories_are_decided_alike_node_by_node(first: int) -> None:
    """The same, 1,000 times."""
    for seed in range(first, first + 100):
        _search(seed)


@pytest.mark.long
@pytest.mark.parametrize("rule", list(SCENARIOS))
def test_a_history_without_a_rule_is_decided_alike_node_by_node(rule: Rule) -> None:
    """Rules that are switched off are so in both."""
    scenario, _ = SCENARIOS[rule]
    scenario(frozenset({rule}))


def test_a_lost_region_shares_one_mark() -> None:
    """Fifty nodes that die together are remembered as one, and read as fifty."""
    fleet = WatchedFleet(nodes_per_region=50)
    for node in fleet.region("eu"):
        node.die()
    fleet.run(60)
    marks = fleet.state.nodes
    assert isinstance(marks, MarkTable)
    assert len(marks.distinct) == 1
    assert len(marks) == 50
    assert {mark.node_id for mark in marks.values()} == {f"eu-{number:02}" for number in range(50)}
    assert dict(marks.items()) == {mark.node_id: mark for mark in marks.values()}
    assert decode_state(encode_state(fleet.state)) == fleet.state


def test_marks_of_nodes_that_are_not_declared_any_more_come_last() -> None:
    """They are read by name like all others, and find their place when declared again."""
    fleet = WatchedFleet()
    marks = {
        "us-01": NodeMark("us-01", NodeState.SUSPECT, 7.0),
        "gone": NodeMark("gone", NodeState.MOVED, incident="i"),
        "ap-00": NodeMark("ap-00", NodeState.SUSPECT, 7.0, incident="j"),
    }
    table = MarkTable.of(marks, fleet.evidence().nodes)
    assert list(table) == ["ap-00", "us-01", "gone"]
    assert table == marks
    assert table.get("eu-00") is None
    assert MarkTable.of(table, fleet.evidence().nodes) == marks


def test_what_is_late_is_written_once_when_first_read() -> None:
    """Its length is known before; equal to any sequence of the same things."""
    written: list[int] = []

    def write() -> list[int]:
        written.append(1)
        return [1, 2, 3]

    late = Late(3, write)
    assert len(late) == 3
    assert written == []
    assert (late[0], late[1:], late == (1, 2, 3), late == [1, 2]) == (1, (2, 3), True, False)
    assert repr(late) == "(1, 2, 3)"
    assert hash(late) == hash((1, 2, 3))
    assert written == [1]


def test_a_changed_question_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one of the answers two nodes are judged alike that are not, and the twin differs."""
    from fleet.failover import judging

    answers = judging._answers
    monkeypatch.setattr(judging, "_answers", lambda *given: answers(*given)[:3])
    fleet = WatchedFleet(policy=PRODUCTION)
    fleet["eu-00"].die()
    fleet["us-00"].maintenance = True
    fleet["us-01"].votes_dead = 3
    fleet["us-01"].dead_domains, fleet["us-01"].dead_outside = 2, 1
    fleet["us-01"].votes_alive = 0
    with pytest.raises(AssertionError):
        fleet.run(200)
