"""What every control store keeps of rescaling, and who may write it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.agents import Placement
from fleet.errors import InvalidInputError, LeaseLostError
from fleet.inventory import AgentPhase
from fleet.leases import RESCALING_LEASE, node_lease_name
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.observation import AutoscalerState, Recommendation, ScaleEvent
from fleet.rescaling.policy import ScalingMode
from fleet.rescaling.standing import (
    LoggedDecision,
    Pending,
    ScaleChange,
    ScalingOrder,
    ScalingStanding,
)
from tests.contracts.store_harness import StoreHarness

AT = datetime(2026, 3, 1, tzinfo=UTC)
STATE = AutoscalerState(
    (Recommendation(AT, 3),), (ScaleEvent(AT, 2),), seen=True, details={"fallback": "1"}
)


def agent(name: str, workload: str = "chat", region: str = "eu") -> AgentDeclaration:
    """One agent as declared."""
    return AgentDeclaration(name, "net", workload, region, 10, 10)


def placement(name: str, desired: str = "running", **changes: Any) -> Placement:
    """One agent on node n1."""
    placed = Placement(name, "net", "chat", "n1", "eu", 0, 0, desired, "because", AT)
    return placed._replace(**changes)


def standing(workload: str = "chat", region: str = "eu", **changes: Any) -> ScalingStanding:
    """One standing that remembers something."""
    return ScalingStanding(workload, region, STATE, decided_at=AT, term=1)._replace(**changes)


def decided(at_s: float = 0.0, **changes: Any) -> LoggedDecision:
    """One decision about chat in eu."""
    at = AT + timedelta(seconds=at_s)
    found = LoggedDecision(
        "chat", "eu", ScalingMode.AUTO, at, at, 1, 2, 3, 1, 9, 2, 1.5, "rate-up", "scale-up", "why"
    )
    return found._replace(**changes)


def change(scales: int = 0, **changes: Any) -> ScaleChange:
    """One more agent of chat in eu."""
    grown = ScaleChange("chat", "eu", scales, (agent("chat-3"),), (), STATE, "cpu asks for 3")
    return grown._replace(**changes)


@pytest.fixture
def led(store: ControlStore) -> tuple[ControlStore, int]:
    """Two agents on a node, and a controller of rescaling."""
    store.declare_nodes([NodeDeclaration("n1", "eu", "eu-a", 1000, 2**30)])
    store.declare_agents([agent("chat-1"), agent("chat-2"), agent("other-1", "other")])
    store.place_agents([placement("chat-1"), placement("chat-2")])
    return store, store.acquire_lease(RESCALING_LEASE, "me", 60.0).term


def test_a_standing_comes_back_as_it_was_kept(led: tuple[ControlStore, int]) -> None:
    """With what the autoscaler remembers, and with a change that waits to be made."""
    store, term = led
    pending = Pending(2, 3, AT, STATE, "cpu asks for 3")
    kept = [standing(pending=pending), standing(region="us", decided_at=None)]
    store.keep_scaling(kept, [], term=term)
    assert store.scaling_standings() == kept
    store.keep_scaling([standing()], [], term=term)
    assert store.scaling_standings() == [standing(), kept[1]]


def test_decisions_are_folded_by_their_id_and_read_newest_first(
    led: tuple[ControlStore, int],
) -> None:
    """A folded one keeps its row; the others get rows in the given order."""
    store, term = led
    first, second = decided(), decided(15, workload="other")
    ids = store.keep_scaling([], [first, second], term=term)
    assert ids == sorted(ids)
    folded = decided(30, first_at=AT, times=2, decision_id=ids[0])
    third = decided(30, desired=2, load=None, verdict="unchanged")
    mixed = store.keep_scaling([], [third, folded], term=term)
    assert mixed == [ids[1] + 1, ids[0]]
    third, second = third._replace(decision_id=mixed[0]), second._replace(decision_id=ids[1])
    assert store.scaling_decisions() == [third, second, folded]
    assert store.scaling_decisions("chat", limit=1) == [third]
    assert store.scaling_decisions("chat", "us") == []
    assert store.scaling_decisions_since(AT, ids[0], 10) == [second, folded, third]
    assert store.scaling_decisions_since(folded.last_at, ids[0], 1) == [third]
    assert store.trim_scaling_decisions(folded.last_at) == 1
    assert store.scaling_decisions() == [third, folded]


def test_a_change_is_made_as_one(led: tuple[ControlStore, int]) -> None:
    """Agents, placements and what the autoscaler remembers; the pending change is gone."""
    store, term = led
    store.keep_scaling([standing(pending=Pending(2, 3, AT, STATE, "x"))], [], term=term)
    stopped = placement("chat-2", "stopped", epoch=1)
    grown = change(placements=(stopped,), state=AutoscalerState(seen=True))
    (result,) = store.apply_scales([grown], term=term)
    assert result.made
    assert result.placed == (stopped._replace(epoch=2),)
    assert [one.agent_id for one in store.agents()] == ["chat-1", "chat-2", "chat-3", "other-1"]
    (after,) = store.scaling_standings()
    assert isinstance(after, ScalingStanding)
    assert (after.scales, after.pending, after.state) == (1, None, AutoscalerState(seen=True))
    assert [(one.step, one.reason) for one in store.journal("scaling/chat/eu")] == [
        ("scaled/1", "cpu asks for 3")
    ]


def test_a_plan_that_was_overtaken_changes_nothing(led: tuple[ControlStore, int]) -> None:
    """Of two made from the same look the second is refused, and so is what a look keeps late."""
    store, term = led
    store.keep_scaling([standing()], [], term=term)
    both = store.apply_scales([change(), change(declared=(agent("chat-4"),))], term=term)
    assert [one.made for one in both] == [True, False]
    (late,) = store.apply_scales([change(placements=(placement("chat-1", epoch=1),))], term=term)
    assert not late.made
    assert "chat-4" not in {one.agent_id for one in store.agents()}
    assert {one.epoch for one in store.placements()} == {1}
    before = store.scaling_standings()
    store.keep_scaling([standing(state=AutoscalerState())], [], term=term)
    assert store.scaling_standings() == before
    assert store.apply_scales([change(scales=1)], term=term)[0].made


def test_only_who_holds_the_rescaling_lease_may_write(
    led: tuple[ControlStore, int], harness: StoreHarness
) -> None:
    """Neither a term that was never given, nor one that ran out, nor one that was followed."""
    store, term = led
    writes: Sequence[Any] = (
        lambda one: store.keep_scaling([standing()], [decided()], term=one),
        lambda one: store.apply_scales([change()], term=one),
        store.demand_scaling_term,
    )
    store.demand_scaling_term(term)
    harness.advance(61.0)
    late = [term, term + 1]
    for one in late:
        for write in writes:
            with pytest.raises(LeaseLostError):
                write(one)
    assert store.acquire_lease(RESCALING_LEASE, "another", 60.0).term == term + 1
    for write in writes:
        with pytest.raises(LeaseLostError):
            write(term)
    assert store.scaling_standings() == []
    assert store.scaling_decisions() == []
    assert "chat-3" not in {one.agent_id for one in store.agents()}


def test_an_order_counts_until_it_is_replaced_or_lifted(store: ControlStore) -> None:
    """Of each kind one, for each workload and region; told in the journal."""
    hold = ScalingOrder("chat", "eu", "hold", 5, "ann", "a launch", AT, AT + timedelta(hours=2))
    approval = hold._replace(kind="approval", until=None)
    abroad = hold._replace(region="us")
    store.order_scaling([hold, approval, abroad])
    more = hold._replace(replicas=6, ordered_at=AT + timedelta(seconds=1))
    store.order_scaling([more])
    assert store.scaling_orders() == [approval, more, abroad]
    assert store.lift_scaling([("chat", "eu"), ("chat", "asia")], "hold", "bob", "over") == 1
    assert store.scaling_orders() == [approval, abroad]
    told = [(one.step.partition("/")[0], one.reason) for one in store.journal("scaling/chat/eu")]
    assert [step for step, _ in told] == ["hold", "approval", "hold", "lifted-hold"]
    assert told[-1][1] == "bob: over"


@pytest.mark.parametrize(
    "wrong",
    [{"replicas": -1}, {"kind": "wish"}, {"until": AT}, {"until": AT + timedelta(days=91)}],
    ids=str,
)
def test_an_order_that_makes_no_sense_is_refused(
    store: ControlStore, wrong: dict[str, Any]
) -> None:
    """And nothing of its batch is kept."""
    good = ScalingOrder("chat", "eu", "hold", 5, "ann", "a launch", AT)
    with pytest.raises(InvalidInputError):
        store.order_scaling([good, good._replace(region="us", **wrong)])
    assert store.scaling_orders() == []


def test_scaled_agents_are_seen_with_their_wish_and_their_report(
    led: tuple[ControlStore, int],
) -> None:
    """Those of the asked workloads alone; one that nobody has placed has no placement."""
    store, _ = led
    store.declare_agents([agent("chat-9", region="us")])
    store.place_agents([placement("chat-2", "stopped", epoch=1)])
    lease = store.acquire_lease(node_lease_name("n1"), "boot", 60.0)
    said = AgentReport("chat-1", 1, AgentPhase.RUNNING, 7, AT, AT, 0, 12.5, 1000, "")
    store.report_node(
        NodeReport("n1", "boot", 1, "x:1", AT, AT, None, None, None, (said,), ()), lease
    )
    found = store.scaled_agents(["chat", "nobody"])
    assert [(one.agent.agent_id, one.is_wanted, one.home) for one in found] == [
        ("chat-1", True, "eu"),
        ("chat-2", False, "eu"),
        ("chat-9", True, "us"),
    ]
    assert found[0].agent.cpu_percent == 12.5
    assert found[0].agent.phase == AgentPhase.RUNNING
    assert found[2].placement is None
    assert found[2].declaration == agent("chat-9", region="us")
    assert store.scaled_agents([]) == []


DAMAGES: Sequence[tuple[dict[str, object], str]] = (
    ({"state_json": "{"}, "its state cannot be read"),
    ({"state_json": '{"version":2}'}, "version 2, not 1"),
    ({"state_json": '{"version":1,"recommendations":[[0,4294967296]]}'}, "no count of 32 bits"),
    ({"state_json": '{"version":1,"details":[]}'}, "its state cannot be read"),
    ({"state_json": "[" * 100_000}, "its state cannot be read"),
    ({"pending_json": '{"current":2}'}, "its pending change cannot be read"),
    ({"pending_json": "[]"}, "its pending change cannot be read"),
    ({"scales": -1}, "its number of changes is -1"),
    ({"term": 2**60}, f"its term is {2**60}"),
    ({"decided_at": 2**62}, f"its last look is {2**62}"),
)


@pytest.mark.parametrize(("columns", "said"), DAMAGES, ids=lambda value: str(value)[:40])
def test_a_damaged_standing_hides_no_other_and_says_what_is_wrong(
    led: tuple[ControlStore, int], harness: StoreHarness, columns: dict[str, object], said: str
) -> None:
    """Whoever it is about, and a command that helps; the row stays as it is."""
    store, term = led
    others = [standing("a"), standing(region="us"), standing("z")]
    store.keep_scaling([standing(pending=Pending(2, 3, AT, STATE, "x")), *others], [], term=term)
    harness.damage_standing("chat", "eu", **columns)
    found = store.scaling_standings()
    (damaged,) = (one for one in found if isinstance(one, DamagedStanding))
    assert [one for one in found if one is not damaged] == others
    assert damaged.key == ("chat", "eu")
    assert said in damaged.damage
    assert "stateroom scaling forget chat --region eu" in damaged.hint
    assert [one.key for one in store.packed_standings()] == [one.key for one in found]
    both = store.apply_scales([change(), change(region="us")], term=term)
    assert [one.made for one in both] == [False, True], "others are scaled"
    assert store.scaling_standings()[1] == damaged


@pytest.mark.parametrize("columns", [one for one, _ in DAMAGES], ids=lambda value: str(value)[:40])
def test_what_is_forgotten_stands_in_the_journal_and_begins_anew(
    led: tuple[ControlStore, int], harness: StoreHarness, columns: dict[str, object]
) -> None:
    """Who, why, and the row as it was; other regions and workloads are left alone."""
    store, term = led
    kept = standing(region="us")
    store.keep_scaling([standing(), kept], [], term=term)
    assert store.apply_scales([change()], term=term)[0].made
    harness.damage_standing("chat", "eu", **columns)
    gone = store.forget_scaling([("chat", "eu"), ("chat", "asia"), ("other", "eu")], "ann", "why")
    assert gone == [("chat", "eu")]
    assert store.scaling_standings() == [
        ScalingStanding("chat", "eu", AutoscalerState(), scales=2),
        kept,
    ]
    *_, told = store.journal("scaling/chat/eu")
    assert (told.step.partition("/")[0], told.reason) == ("forgotten", "ann: why")
    row = json.loads(told.detail)
    assert {name: row[name] for name in columns} == columns
    assert row["state_json"], "the row as it was"


def test_what_was_seen_before_it_was_forgotten_changes_nothing_after(
    led: tuple[ControlStore, int],
) -> None:
    """A run that was on its way, a look that had begun; and the journal's numbers go on."""
    store, term = led
    assert store.apply_scales([change()], term=term)[0].made
    store.forget_scaling([("chat", "eu")], "ann", "why")
    (emptied,) = store.scaling_standings()
    assert not store.apply_scales([change(scales=1)], term=term)[0].made
    store.keep_scaling([standing(scales=1)], [], term=term)
    assert store.scaling_standings() == [emptied]
    assert store.apply_scales([change(scales=2)], term=term)[0].made
    told = [one.step for one in store.journal("scaling/chat/eu") if one.step.startswith("scaled/")]
    assert told == ["scaled/1", "scaled/3"]


@pytest.mark.parametrize("words", [("", "why"), ("ann", " ")], ids=str)
def test_nobody_forgets_without_a_name_and_a_reason(
    led: tuple[ControlStore, int], words: tuple[str, str]
) -> None:
    """Nothing is forgotten then."""
    store, term = led
    store.keep_scaling([standing()], [], term=term)
    with pytest.raises(InvalidInputError):
        store.forget_scaling([("chat", "eu")], *words)
    assert store.scaling_standings() == [standing()]
