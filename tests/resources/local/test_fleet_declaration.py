"""What `up` declares: once or twice, whole or interrupted, the result is the same."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fleet.agents import Placement
from fleet.errors import StoreUnavailableError
from fleet.leases import LEADER_LEASE
from fleet.placement.quotas import NetworkLimits, ResourceQuota
from fleet.rescaling.standing import HOLD, ScalingOrder
from resources.local.fleet_declaration import declare_fleet, place_unplaced
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.resources.local.fleets import agents_of, node, shell

NODES = [node("n1"), node("n2"), node("n3", "there")]
WORKLOADS = [shell("a", "true"), shell("b", "true")]
AGENTS = (
    agents_of(WORKLOADS[0], 4) + agents_of(WORKLOADS[1], 3) + agents_of(shell("c", ""), 2, "there")
)


class GoneError(StoreUnavailableError):
    """The store went away."""


class Interrupted:
    """A store that goes away before the n-th write."""

    def __init__(self, store: InMemoryControlStore, writes: int) -> None:
        """Let `writes` writes pass."""
        self._store = store
        self._left = writes

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("declare", "retire", "place_")):
            if self._left == 0:
                raise GoneError("gone")
            self._left -= 1
        return getattr(self._store, name)


def rows(store: InMemoryControlStore) -> tuple[object, ...]:
    """Everything that a declaration leaves behind."""
    placements = [p._replace(updated_at=ManualClock().now()) for p in store.placements()]
    return (store.nodes(), store.workloads(), [a.agent_id for a in store.agents()], placements)


def earlier_fleet() -> InMemoryControlStore:
    """A store that knows another fleet: a node, a workload's size and an agent have changed."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    old = agents_of(WORKLOADS[0], 6)
    declare_fleet(store, [node("n1"), node("old")], WORKLOADS[:1], old, clock)
    return store


def test_a_second_declaration_changes_nothing() -> None:
    """Same agents, same nodes, same epochs."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    placed = declare_fleet(store, NODES, WORKLOADS, AGENTS, clock)
    assert len(placed) == len(AGENTS)
    assert {placement.epoch for placement in placed} == {1}
    before = rows(store)
    assert declare_fleet(store, NODES, WORKLOADS, AGENTS, clock) == []
    assert rows(store) == before


def test_what_is_not_declared_any_more_is_retired_and_its_agents_move() -> None:
    """Agents of the removed node get a higher epoch elsewhere; the others stay."""
    store = earlier_fleet()
    stayed = [p for p in store.placements("n1") if p.agent_id in {a.agent_id for a in AGENTS}]
    declare_fleet(store, NODES, WORKLOADS, AGENTS, ManualClock())
    assert [n.node_id for n in store.nodes()] == ["n1", "n2", "n3"]
    assert [a.agent_id for a in store.agents()] == sorted(a.agent_id for a in AGENTS)
    after = {p.agent_id: p for p in store.placements()}
    assert [after[p.agent_id] for p in stayed] == stayed
    moved = [p for p in after.values() if p.workload == "a" and p not in stayed]
    assert {p.epoch for p in moved} == {2}
    assert store.placements("old") == []


@pytest.mark.parametrize("writes", range(6))
def test_a_declaration_that_was_interrupted_is_completed_by_the_next(writes: int) -> None:
    """Whichever write was the last, the second run ends where an undisturbed one does."""
    undisturbed = earlier_fleet()
    declare_fleet(undisturbed, NODES, WORKLOADS, AGENTS, ManualClock())
    store = earlier_fleet()
    with pytest.raises(GoneError):
        declare_fleet(Interrupted(store, writes), NODES, WORKLOADS, AGENTS, ManualClock())  # type: ignore[arg-type]
    declare_fleet(store, NODES, WORKLOADS, AGENTS, ManualClock())
    assert rows(store) == rows(undisturbed)


def test_agents_declared_later_are_placed_without_moving_others() -> None:
    """What `scale` declares finds its node."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    declare_fleet(store, NODES, WORKLOADS, AGENTS, clock)
    before: list[Placement] = store.placements()
    store.declare_agents(agents_of(shell("d", ""), 2))
    placed = place_unplaced(store, clock)
    assert [(p.agent_id, p.epoch) for p in placed] == [("d-0", 1), ("d-1", 1)]
    assert [p for p in store.placements() if p.workload != "d"] == before


def test_nobody_new_goes_where_somebody_works_and_nobody_there_leaves() -> None:
    """A mark on a node, or on its region; when it ends the node takes agents again."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    declare_fleet(store, NODES, WORKLOADS, AGENTS, clock)
    before, until = store.placements(), clock.now() + timedelta(hours=1)
    for marked in NODES[1:]:
        store.start_maintenance(f"node/{marked.node_id}", until, "ann", "disks")
    store.declare_agents(agents_of(shell("d", ""), 2))
    assert {one.node_id for one in place_unplaced(store, clock)} == {NODES[0].node_id}
    assert [p for p in store.placements() if p.workload != "d"] == before
    store.start_maintenance(f"region/{NODES[0].region}", until, "ann", "power")
    store.declare_agents(agents_of(shell("e", ""), 1))
    assert [one.desired for one in place_unplaced(store, clock)] == ["parked"]
    clock.advance(3600)
    assert [one.desired for one in place_unplaced(store, clock)] == ["running"]


def test_agents_that_a_failover_has_moved_or_parked_are_placed_again_by_the_next_up() -> None:
    """Their terms are the controllers', higher than anything that a person places with."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    declare_fleet(store, NODES, WORKLOADS, AGENTS, clock)
    lease = store.acquire_lease(LEADER_LEASE, "controller", 60.0)
    moved, parked = sorted(store.placements("n1"))[:2]
    because = "node n1 was lost (i)"
    wanted = [
        moved._replace(node_id="n2", term=lease.term, reason=because),
        parked._replace(
            node_id="", desired="parked", term=lease.term,
            reason=f"{because}; parked: here has no node",
        ),
    ]  # fmt: skip
    assert len(store.place_agents(wanted, leader_term=lease.term)) == 2
    placed = declare_fleet(store, [NODES[0], NODES[2]], WORKLOADS, AGENTS, clock)
    assert {moved.agent_id, parked.agent_id} <= {one.agent_id for one in placed}
    now = {one.agent_id: one for one in store.placements()}
    for agent_id in (moved.agent_id, parked.agent_id):
        found = now[agent_id]
        assert (found.node_id, found.desired, found.epoch) == ("n1", "running", 3)


def test_a_parked_crash_loop_that_is_declared_anew_runs_again() -> None:
    """Left out of one declaration and named by the next: what the runbook tells an operator."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    declare_fleet(store, NODES, WORKLOADS, AGENTS, clock)
    lease = store.acquire_lease(LEADER_LEASE, "controller", 60.0)
    looping = min(store.placements("n1"))
    reason = "parked: Park agent/x: crash loops must not tour the fleet (restarts 5, limit 3)"
    parked = looping._replace(node_id="", desired="parked", term=lease.term, reason=reason)
    store.place_agents([parked], leader_term=lease.term)
    declare_fleet(store, NODES, WORKLOADS, AGENTS, clock)
    others = [one for one in AGENTS if one.agent_id != looping.agent_id]
    found = {one.agent_id: one for one in store.placements()}[looping.agent_id]
    assert (found.desired, found.epoch) == ("parked", 2)
    declare_fleet(store, NODES, WORKLOADS, others, clock)
    declare_fleet(store, NODES, WORKLOADS, AGENTS, clock)
    found = {one.agent_id: one for one in store.placements()}[looping.agent_id]
    assert (found.desired, found.epoch) == ("running", 3)


def test_a_quota_of_the_settings_parks_what_it_does_not_allow_until_it_is_raised() -> None:
    """At the start of the fleet, and when it grows; the reason names quota, use and request."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    limits = [NetworkLimits("net", ResourceQuota(agents=8))]
    placed = declare_fleet(store, NODES, WORKLOADS, AGENTS, clock, limits)
    assert [(p.agent_id, p.desired) for p in placed if not p.node_id] == [("c-1", "parked")]
    assert declare_fleet(store, NODES, WORKLOADS, AGENTS, clock, limits) == []
    store.declare_agents(agents_of(shell("d", ""), 1))
    [refused] = place_unplaced(store, clock)
    assert refused.reason == "parked: quota of network net: agents 8 of 8 used, 1 requested"
    placed = declare_fleet(store, NODES, WORKLOADS, AGENTS, clock)
    assert [(p.agent_id, p.desired) for p in placed] == [("c-1", "running")]


def test_a_scaled_workload_keeps_the_agents_that_it_has() -> None:
    """Those that were added, and those that were scaled away; they take the declared shape."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    declare_fleet(store, NODES, WORKLOADS, AGENTS, clock, scaled=["a"])
    added = agents_of(WORKLOADS[0], 6)[4:]
    store.declare_agents(added)
    place_unplaced(store, clock)
    first = store.placements()[0]
    store.place_agents([first._replace(desired="stopped", reason="scaled to 5 in here")])
    bigger = [one._replace(cpu_milli=2) for one in AGENTS]
    before = store.placements()
    assert declare_fleet(store, NODES, WORKLOADS, bigger, clock, scaled=["a"]) == []
    assert store.placements() == before
    assert [one.cpu_milli for one in store.agents() if one.workload == "a"] == [2] * 6


def test_a_workload_that_is_scaled_no_more_has_its_declared_agents_again() -> None:
    """What was added is retired, what was scaled away runs; what a person stopped stays so."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    declare_fleet(store, NODES, WORKLOADS, AGENTS, clock, scaled=["a"])
    store.declare_agents(agents_of(WORKLOADS[0], 6)[4:])
    place_unplaced(store, clock)
    scaled_away, stopped = [one for one in store.placements() if one.workload == "a"][:2]
    store.place_agents(
        [
            scaled_away._replace(desired="stopped", reason="scaled to 5 in here"),
            stopped._replace(desired="stopped", reason="by hand"),
        ]
    )
    declare_fleet(store, NODES, WORKLOADS, AGENTS, clock)
    after = {one.agent_id: one for one in store.placements() if one.workload == "a"}
    assert sorted(after) == [f"a-{n}" for n in range(4)]
    assert after[scaled_away.agent_id].desired == "running"
    assert after[scaled_away.agent_id].node_id == scaled_away.node_id
    assert after[stopped.agent_id].desired == "stopped"


def test_a_number_that_a_person_holds_outlives_a_start() -> None:
    """Also of a workload that is not scaled by itself."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    declare_fleet(store, NODES, WORKLOADS, AGENTS, clock)
    store.declare_agents(agents_of(WORKLOADS[0], 6)[4:])
    store.order_scaling([ScalingOrder("a", "here", HOLD, 6, "ann", "a launch", clock.now())])
    declare_fleet(store, NODES, WORKLOADS, AGENTS, clock)
    assert sum(one.workload == "a" for one in store.agents()) == 6
