"""Placing what waits while others place, retire and use up: plan, swap, plan anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from fleet.agents import Placement, Workload
from fleet.errors import QuotaExceededError, StoreUnavailableError
from fleet.leases import LEADER_LEASE
from fleet.placement.quotas import NetworkLimits, ResourceQuota
from fleet.reports import AgentDeclaration, NodeDeclaration
from ops.placement import alive_nodes, newest_term, place_waiting, require_room
from tests.fakes.control_store import InMemoryControlStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODES = ("n1", "n2")


def agent(name: str, cpu: int = 2, priority: int = 0, workload: str = "w") -> AgentDeclaration:
    """An agent that needs CPU."""
    return AgentDeclaration(name, "net", workload, "r", cpu, 1, priority=priority)


class Disturbed(InMemoryControlStore):
    """Something happens between the plan and the swap: once for each given deed."""

    def __init__(self) -> None:
        """Nothing happens yet."""
        super().__init__()
        self.deeds: list[Callable[[], object]] = []

    def place_agents(
        self,
        placements: Sequence[Placement],
        *,
        leader_term: int | None = None,
        within_limits: bool = False,
    ) -> list[Placement]:
        """Swap after the next deed."""
        if self.deeds:
            self.deeds.pop(0)()
        return super().place_agents(
            placements, leader_term=leader_term, within_limits=within_limits
        )


def fleet(*agents: AgentDeclaration, cpu: int = 4) -> Disturbed:
    """Two nodes, and agents that wait."""
    store = Disturbed()
    store.declare_nodes([NodeDeclaration(name, "r", "z", cpu, 99) for name in NODES])
    store.declare_workloads([Workload("w", "net", function="m:f")])
    store.declare_agents(agents)
    return store


def where(store: InMemoryControlStore) -> dict[str, str]:
    """agent_id -> node."""
    return {one.agent_id: one.node_id for one in store.placements()}


def test_what_waits_is_placed_and_a_second_call_changes_nothing() -> None:
    """Under the last leader's term; with reasons."""
    store = fleet(agent("a"), agent("b"), agent("big", 9))
    term = store.acquire_lease(LEADER_LEASE, "controller", 60.0).term
    outcome = place_waiting(store, NODES, now=NOW, term=newest_term(store))
    assert [(p.agent_id, p.node_id, p.epoch, p.term) for p in outcome.placed] == [
        ("a", "n1", 1, term),
        ("b", "n2", 1, term),
    ]
    assert [p.reason for p in outcome.parked] == [
        "parked: no node of r has room: n1 has cpu_milli 4 of 9; n2 has cpu_milli 4 of 9"
    ]
    assert (outcome.lost, outcome.rounds) == (0, 1)
    again = place_waiting(store, NODES, now=NOW, term=0)
    assert (again.placed, again.parked, again.lost) == ([], [], 0)


def test_room_that_vanishes_between_plan_and_swap_is_found_elsewhere() -> None:
    """Another placer fills the node that was planned; the loser goes to the other one."""
    store = fleet(agent("a"), agent("other", 4))
    rival = Placement("other", "net", "w", "n1", "r", 0, 0, "running", "rival", NOW)
    store.deeds = [lambda: InMemoryControlStore.place_agents(store, [rival])]
    outcome = place_waiting(store, NODES, now=NOW, term=0)
    assert where(store) == {"a": "n2", "other": "n1"}
    assert outcome.rounds == 2


def test_a_node_that_is_retired_between_plan_and_swap_takes_nobody() -> None:
    """The next round plans without it."""
    store = fleet(agent("a"), agent("b"))
    store.deeds = [lambda: store.retire_nodes(["n1"])]
    outcome = place_waiting(store, NODES, now=NOW, term=0)
    assert where(store) == {"a": "n2", "b": "n2"}
    assert (outcome.rounds, outcome.lost) == (2, 0)


def test_a_quota_that_was_used_up_in_between_parks_the_loser() -> None:
    """Both saw room for one more; the reason names quota, use and request."""
    store = fleet(agent("a"), agent("rival"))
    store.declare_network_limits([NetworkLimits("net", ResourceQuota(cpu_milli=3))])
    rival = Placement("rival", "net", "w", "n2", "r", 0, 0, "running", "rival", NOW)
    store.deeds = [lambda: InMemoryControlStore.place_agents(store, [rival])]
    outcome = place_waiting(store, NODES, now=NOW, term=0)
    assert [(p.agent_id, p.reason) for p in outcome.parked] == [
        ("a", "parked: quota of network net: cpu_milli 2 of 3 used, 2 requested")
    ]
    with pytest.raises(QuotaExceededError, match="cpu_milli 2 of 3 used, 4 requested"):
        require_room(store, agent("a"), 2)
    store.declare_network_limits([NetworkLimits("net", ResourceQuota(cpu_milli=4))])
    require_room(store, agent("a"), 1)
    outcome = place_waiting(store, NODES, now=NOW, term=0)
    assert [(p.agent_id, p.epoch) for p in outcome.placed] == [("a", 2)]


def test_who_always_loses_is_counted_and_no_one_waits_for_ever() -> None:
    """A node that vanishes in every round."""
    store = fleet(agent("a"))

    def flap() -> None:
        known = {node.node_id for node in store.nodes()}
        store.retire_nodes(sorted(known))
        left = [name for name in ("n1", "n3", "n4", "n5", "n6") if name not in known]
        store.declare_nodes([NodeDeclaration(left[0], "r", "z", 4, 99)])

    store.deeds = [flap] * 9
    every = ("n1", "n2", "n3", "n4", "n5", "n6")
    outcome = place_waiting(store, every, now=NOW, term=0)
    assert (outcome.placed, outcome.lost, outcome.rounds) == ([], 1, 4)


def test_only_nodes_that_are_alive_take_agents_and_others_keep_theirs() -> None:
    """An agent on a silent node is failover's to move, and its quota stays in use."""
    store = fleet(agent("a"), agent("b"))
    store.declare_network_limits([NetworkLimits("net", ResourceQuota(agents=2))])
    place_waiting(store, NODES, now=NOW, term=0)
    assert where(store) == {"a": "n1", "b": "n2"}
    store.declare_agents([agent("c")])
    outcome = place_waiting(store, ["n2"], now=NOW, term=0)
    assert [p.reason for p in outcome.parked] == [
        "parked: quota of network net: agents 2 of 2 used, 1 requested"
    ]
    store.declare_network_limits([])
    place_waiting(store, ["n2"], now=NOW, term=0)
    assert where(store) == {"a": "n1", "b": "n2", "c": "n2"}
    assert alive_nodes(store, NOW) == frozenset()  # none has ever reported


def test_a_limited_call_places_the_most_important_first() -> None:
    """The others wait on, and are placed by the next call."""
    store = fleet(agent("a"), agent("b", priority=2), agent("c", priority=1))
    place_waiting(store, NODES, now=NOW, term=0, limit=2)
    assert sorted(where(store)) == ["b", "c"]
    place_waiting(store, NODES, now=NOW, term=0, limit=2)
    assert sorted(where(store)) == ["a", "b", "c"]


def test_who_fits_nowhere_holds_nobody_up_and_a_gang_comes_whole() -> None:
    """A limit of one: the big one is parked, the gang of two is more than the limit, but alone."""
    store = fleet(agent("big", 99, 9), agent("g1", 1, 5, "gang"), agent("g2", 1, 5, "gang"))
    store.declare_agents([agent("a", 1)])
    store.declare_workloads([Workload("gang", "net", function="m:f", gang="g")])
    outcome = place_waiting(store, NODES, now=NOW, term=0, limit=1)
    assert [p.agent_id for p in outcome.placed] == ["g1", "g2"]
    assert [p.agent_id for p in outcome.parked] == ["big"]
    outcome = place_waiting(store, NODES, now=NOW, term=0, limit=1)
    assert [p.agent_id for p in outcome.placed] == ["a"]


def test_a_more_important_agent_makes_room_in_the_same_batch() -> None:
    """The victim has another node; the blast radius allows a quarter of the agents."""
    store = fleet(agent("a", 3), agent("b", 2), agent("c", 1), agent("d", 1))
    store.declare_nodes([NodeDeclaration("n3", "r", "z", 1, 99)])
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "n1"), ("d", "n2")):
        row = Placement(name, "net", "w", node, "r", 0, 0, "running", "", NOW)
        store.place_agents([row])
    store.declare_agents([agent("vip", 2, 9)])
    outcome = place_waiting(store, (*NODES, "n3"), now=NOW, term=0)
    assert where(store)["vip"] == "n2"
    assert where(store)["d"] == "n3"
    assert [p.agent_id for p in outcome.placed] == ["d", "vip"]
    store.declare_agents([agent("vip2", 2, 9)])
    store.declare_nodes([NodeDeclaration("n4", "r", "z", 1, 99)])
    outcome = place_waiting(store, (*NODES, "n3", "n4"), now=NOW, term=0)
    assert [p.agent_id for p in outcome.parked] == ["vip2"]  # the radius is used up for a while


def test_a_crash_before_the_swap_is_made_up_for_by_the_next_call() -> None:
    """Nothing was stored; the second call ends where an undisturbed one does."""
    store = fleet(agent("a"), agent("b"))

    def die() -> None:
        raise StoreUnavailableError("the connection is gone")

    store.deeds = [die]
    with pytest.raises(StoreUnavailableError):
        place_waiting(store, NODES, now=NOW, term=0)
    assert where(store) == {}
    place_waiting(store, NODES, now=NOW, term=0)
    assert where(store) == {"a": "n1", "b": "n2"}
