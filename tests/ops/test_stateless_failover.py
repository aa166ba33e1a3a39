"""Agents that may run twice go ahead of the fence; whoever holds anything does not."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.agents import StatePut, Workload
from fleet.failover_order import FailoverOrder, decode_order, encode_order
from ops.failover_run import carry_out
from tests.ops.failover_world import CrashedError, CrashingCalls, FailoverWorld

WITHOUT_STATE = ("eu-1-a2", "eu-1-a3")


class StatelessWorld(FailoverWorld):
    """All agents are declared stateless; two of node eu-1 have stored none."""

    def __init__(self, cpu_milli: int = 1000) -> None:
        """As the other world, with that declaration."""
        super().__init__(cpu_milli)
        self.store.declare_workloads([Workload("w", "net", function="m:f", stateless=True)])
        for name in WITHOUT_STATE:
            self.store.remove_state(name)

    def early(self, **changes: Any) -> FailoverOrder:
        """The order that is given at the verdict."""
        return self.order("eu-1", stateless_only=True, **changes)

    def where(self) -> dict[str, tuple[str, int]]:
        """Agent of eu-1 -> node and epoch."""
        placed = {one.agent_id: one for one in self.store.placements()}
        return {n: (one.node_id, one.epoch) for n, one in placed.items() if n.startswith("eu-1")}


def test_they_run_elsewhere_before_the_lease_of_their_node_has_run_out() -> None:
    """The others stay where they are, under their epochs."""
    world = StatelessWorld()
    world.kill("eu-1")
    done = carry_out(world.ports(), world.early())
    assert [one.agent_id for one in done.placed] == list(WITHOUT_STATE)
    assert world.where() == {
        "eu-1-a0": ("eu-1", 1),
        "eu-1-a1": ("eu-1", 1),
        "eu-1-a2": ("eu-2", 2),
        "eu-1-a3": ("eu-2", 2),
    }
    lease = world.store.lease("node/eu-1")
    assert lease is not None
    assert (lease.holder, lease.expires_at > world.clock.now()) == ("boot", True)


def test_the_rest_follows_under_a_plan_of_its_own() -> None:
    """The same incident and attempt; nobody is moved twice."""
    world = StatelessWorld()
    world.kill("eu-1")
    carry_out(world.ports(), world.early())
    done = carry_out(world.ports(), world.order("eu-1"))
    assert [one.agent_id for one in done.placed] == ["eu-1-a0", "eu-1-a1"]
    assert set(world.where().values()) == {("eu-2", 2)}


def test_who_stores_a_state_between_plan_and_move_waits_for_the_fence() -> None:
    """Looked at again before the commit; the journal says so."""
    world = StatelessWorld()
    world.kill("eu-1")

    class Writing(CrashingCalls):
        """A store in which an agent writes while the run restores."""

        def append_journal(self, entries: Any) -> Any:
            if any(one.step.startswith("restore/") and one.status == "started" for one in entries):
                world.store.put_states([StatePut("eu-1-a2", 1, 0, b"its first")])
            return self._store.append_journal(entries)

    order = world.early()
    done = carry_out(world.ports(Writing(world.store, -1, after=False)), order)
    assert [one.agent_id for one in done.placed] == ["eu-1-a3"]
    assert world.where()["eu-1-a2"] == ("eu-1", 1)
    told = [one.reason for one in world.store.journal(order.incident_id)]
    assert any("1 hold a state or a lease by now and wait for the fence" in one for one in told)


def test_who_has_no_place_is_not_parked_ahead_of_the_others() -> None:
    """Parking is for good; the move behind the fence decides about it."""
    world = StatelessWorld(cpu_milli=500)
    world.kill("eu-1")
    done = carry_out(world.ports(), world.early())
    assert len(done.placed) == 1
    assert {one.desired for one in world.store.placements()} == {"running"}


def test_a_node_that_reports_again_keeps_them() -> None:
    """The order is looked at again like any other."""
    world = StatelessWorld()
    world.kill("eu-1")
    order = world.early()
    world.dead.clear()
    world.pass_time(1)
    assert carry_out(world.ports(), order).placed == ()
    assert {node for node, _ in world.where().values()} == {"eu-1"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_write_it_is_carried_out_again_and_ends_alike(*, after: bool) -> None:
    """A restart repeats nothing that is done."""
    for crash_at in range(40):
        world = StatelessWorld()
        world.kill("eu-1")
        order = world.early()
        calls = CrashingCalls(world.store, crash_at, after=after)
        try:
            carry_out(world.ports(calls), order)
        except CrashedError:
            carry_out(world.ports(), order)
        else:
            assert crash_at >= calls.calls
            return
        assert {n: world.where()[n] for n in WITHOUT_STATE} == dict.fromkeys(
            WITHOUT_STATE, ("eu-2", 2)
        )
    raise AssertionError("it never came to its end")


def test_an_order_says_so_wherever_it_travels() -> None:
    """Its steps and its run have names of their own."""
    order = StatelessWorld().early()
    assert decode_order(encode_order(order)) == order
    assert order.label == "early-1"
    shared = order._replace(incident_id="region-eu-20260301T000000")
    assert shared.label == "early-node-eu-1.1"
