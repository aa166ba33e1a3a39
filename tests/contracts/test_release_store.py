"""What every control store does about stopped agents that have ended, and where an agent was."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fleet.agents import Placement, StatePut
from fleet.inventory import AgentPhase
from fleet.leases import node_lease_name
from fleet.placement.quotas import ResourceUse
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from tests.contracts.store_harness import StoreHarness

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TTL_S = 30.0


def placed(name: str, node: str, desired: str = "running", epoch: int = 0) -> Placement:
    """In region eu."""
    return Placement(name, "net", "w", node, "eu", epoch, 4, desired, "scaled to 0 in eu", NOW)


def beat(store: ControlStore, node_id: str, *agents: tuple[str, int, AgentPhase]) -> None:
    """A node reports these agents."""
    lease = store.acquire_lease(node_lease_name(node_id), "boot", TTL_S)
    told = tuple(
        AgentReport(name, epoch, phase, None, None, None, 0, None, None, "")
        for name, epoch, phase in agents
    )
    store.report_node(
        NodeReport(node_id, "boot", 1, "x:1", NOW, NOW, None, None, None, told, ()), lease
    )


@pytest.fixture
def fleet(store: ControlStore) -> ControlStore:
    """A and b were stopped on n1, c runs there; d was stopped on n2, which never reported."""
    store.declare_nodes([NodeDeclaration(name, "eu", "z", 9, 9) for name in ("n1", "n2")])
    store.declare_agents([AgentDeclaration(name, "net", "w", "eu", 2, 3) for name in "abcd"])
    store.place_agents([placed(name, "n2" if name == "d" else "n1") for name in "abcd"])
    beat(store, "n1", *((name, 1, AgentPhase.RUNNING) for name in "abc"))
    store.place_agents([placed(name, "n1", "stopped", 1) for name in "ab"])
    store.place_agents([placed("d", "n2", "stopped", 1)])
    return store


def rows(store: ControlStore) -> dict[str, tuple[str, str, int]]:
    """Agent -> node, wish, epoch."""
    return {one.agent_id: (one.node_id, one.desired, one.epoch) for one in store.placements()}


def test_room_is_given_back_once_the_end_is_known_and_not_before(fleet: ControlStore) -> None:
    """By the node's word under the order to stop; at once where the node may run nothing."""
    assert [one.agent_id for one in fleet.release_ended()] == ["d"]
    assert fleet.network_uses(["net"]) == {"net": ResourceUse(3, 6, 9)}
    beat(fleet, "n1", ("a", 1, AgentPhase.RUNNING), ("b", 1, AgentPhase.STOPPED))
    assert fleet.release_ended() == [], "what a node says of an older epoch may be over"
    beat(fleet, "n1", ("a", 1, AgentPhase.RUNNING), ("b", 2, AgentPhase.STOPPED))
    (released,) = fleet.release_ended()
    assert (released.agent_id, released.node_id, released.epoch) == ("b", "", 3)
    assert (released.term, released.region) == (4, "eu")
    assert released.reason == "scaled to 0 in eu; ended on n1"
    assert rows(fleet) == {
        "a": ("n1", "stopped", 2),
        "b": ("", "stopped", 3),
        "c": ("n1", "running", 1),
        "d": ("", "stopped", 3),
    }
    assert fleet.network_uses(["net"]) == {"net": ResourceUse(2, 4, 6)}
    assert fleet.release_ended() == []


def test_the_room_can_be_had_by_others_only_then(fleet: ControlStore) -> None:
    """Judged inside the transaction of the placer."""
    fleet.declare_agents([AgentDeclaration("new", "net", "w", "eu", 4, 1)])
    assert fleet.place_agents([placed("new", "n1")], within_limits=True) == []
    beat(fleet, "n1", ("a", 2, AgentPhase.STOPPED))
    fleet.release_ended()
    assert [one.agent_id for one in fleet.place_agents([placed("new", "n1")],
                                                       within_limits=True)] == ["new"]  # fmt: skip


def test_who_is_wanted_again_before_the_release_keeps_its_room(fleet: ControlStore) -> None:
    """The node's word was about an order that is over."""
    beat(fleet, "n1", ("a", 2, AgentPhase.STOPPED), ("b", 2, AgentPhase.STOPPED))
    fleet.place_agents([placed("a", "n1", epoch=2)])
    fleet.place_agents([placed("b", "n1", epoch=2)])
    fleet.place_agents([placed("b", "n1", "stopped", 3)])
    assert {one.agent_id for one in fleet.release_ended()} == {"d"}
    assert rows(fleet)["a"] == ("n1", "running", 3)
    assert rows(fleet)["b"] == ("n1", "stopped", 4)


def test_a_silent_node_and_one_that_is_retired_run_nothing(
    fleet: ControlStore, harness: StoreHarness
) -> None:
    """Agents that run there are the failover's; a retired agent's row is left alone."""
    fleet.retire_agents(["b"])
    harness.advance(TTL_S + 1)
    assert [one.agent_id for one in fleet.release_ended()] == ["a", "d"]
    assert "may run nothing" in fleet.placements()[0].reason
    fleet.place_agents([placed("a", "n1", epoch=3)])
    fleet.place_agents([placed("a", "n1", "stopped", 4)])
    beat(fleet, "n1", ("a", 4, AgentPhase.RUNNING))
    assert fleet.release_ended() == []
    fleet.retire_nodes(["n1"])
    assert [one.agent_id for one in fleet.release_ended()] == ["a"]
    assert rows(fleet)["c"] == ("n1", "running", 1)


def test_its_state_and_the_node_it_was_on_are_remembered(fleet: ControlStore) -> None:
    """The history knows the node, whatever came later; who had none is absent."""
    (written,) = fleet.put_states([StatePut("a", 2, 0, b"known")])
    assert written.error is None
    beat(fleet, "n1", ("a", 2, AgentPhase.STOPPED))
    fleet.release_ended()
    fleet.declare_agents([AgentDeclaration("e", "net", "w", "eu", 1, 1)])
    fleet.place_agents([placed("e", "", "parked")])
    assert fleet.last_nodes(["a", "c", "d", "e", "nobody"]) == {"a": "n1", "c": "n1", "d": "n2"}
    assert fleet.last_nodes([]) == {}
    fleet.place_agents([placed("a", "n2", epoch=3)])
    assert fleet.last_nodes(["a"]) == {"a": "n2"}
    state = fleet.state("a")
    assert state is not None
    assert (state.body, state.version) == (b"known", 1)
