"""A live controller on a small world: force, freezes that are told, and the way home in steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.failover.profiles import EMBEDDED
from fleet.failover.records import FailoverState, RegionMark
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.incidents import IncidentKind, IncidentOpening, IncidentState
from ops.failover_run import carry_out
from platform_defs.command.fail_back import order_fail_back
from platform_defs.command.forced_orders import order_failover
from tests.ops.test_failover_controller import WatchedWorld

CLOCK_ID = "clock"
EVACUATION = "region-eu-20260301T110000"
CALM_S = 30.0


class Watched(WatchedWorld):
    """The world with a controller that may remember an evacuation."""

    def __init__(self, state: FailoverState | None = None, step_agents: int = 200) -> None:
        """All is well since a few looks."""
        policy = replace(EMBEDDED, fail_back_calm_s=CALM_S, fail_back_step_agents=step_agents)
        super().__init__(policy)
        if state is not None:
            now = self.controller.state
            self.controller.state = replace(now, regions=state.regions)

    def look_for(self, seconds: float) -> list[FailoverOrder]:
        """Look again and again; carry out what is ordered."""
        orders = []
        for _ in range(int(seconds)):
            tick = self.look()
            assert not tick.faults, tick.faults
            for order in tick.orders:
                orders.append(order)
                carry_out(self.ports(), order)
        return orders


def test_a_forced_order_is_given_by_the_next_look_and_ends_with_its_incident() -> None:
    """A node that is well is given up, because a person says so."""
    world = Watched()
    given = order_failover(world.store, "node", "eu-1", "eu", "ann", "smoke")
    orders = world.look_for(60)
    assert orders[0].forced
    assert (orders[0].subject, orders[0].incident_id) == ("eu-1", given.incident_id)
    assert world.store.placements("eu-1") == []
    header = world.store.incident(given.incident_id)
    assert header is not None
    assert header.state == IncidentState.ENDED, header
    assert world.store.approvals() == []


def test_a_region_that_is_well_is_evacuated_by_force() -> None:
    """Its agents are stopped first; its incident ends when they run in the other region."""
    world = Watched()
    given = order_failover(world.store, "region", "eu", "eu", "ann", "the power will be cut")
    world.look_for(60)
    assert world.store.placements(region="eu") == []
    header = world.store.incident(given.incident_id)
    assert header is not None
    assert header.state == IncidentState.ENDED, header


def evacuated() -> FailoverState:
    """What a controller remembers of an evacuation."""
    mark = RegionMark("eu", evacuated_s=0.0, calm_s=0.0, evacuation=EVACUATION)
    return FailoverState(clock_id=CLOCK_ID, regions={"eu": mark})


def abroad(world: Watched, count: int) -> list[str]:
    """Agents of eu that run in us, since an evacuation that has ended."""
    opening = IncidentOpening(
        IncidentKind.REGION, "eu", "eu", "lost", world.clock.now(), 1, incident_id=EVACUATION
    )
    header = world.store.open_incident(opening)
    world.store.update_incident(
        header._replace(
            state=IncidentState.ENDED,
            ended_at=world.clock.now(),
            outcome="its agents run elsewhere",
        )
    )
    moved = world.store.placements(region="eu")[:count]
    world.store.place_agents([one._replace(node_id="us-1", region="us", term=1) for one in moved])
    return [one.agent_id for one in moved]


def approve(world: Watched) -> str:
    """A person rehearses and approves; the incident that holds both."""
    actions = ["rehearsed:eu", f"fail_back:region/eu:{EVACUATION}"]
    (first, _) = order_fail_back(world.store, "eu", actions, "ann", "power is back")
    return first.incident_id


def test_approved_agents_go_home_in_steps_after_the_calm() -> None:
    """Each step is a run of its own; the incident ends when the last one is at home."""
    world = Watched(evacuated(), step_agents=3)
    away = abroad(world, 7)
    assert world.look_for(CALM_S + 5) == []
    incident_id = approve(world)
    orders = world.look_for(60)
    assert [one.kind for one in orders] == [OrderKind.FAIL_BACK] * 3
    assert [(one.incident_id, one.attempt) for one in orders] == [
        (incident_id, 1), (incident_id, 2), (incident_id, 3),
    ]  # fmt: skip
    placed = {one.agent_id: one for one in world.store.placements()}
    assert {placed[one].region for one in away} == {"eu"}
    assert {placed[one].desired for one in away} == {"running"}
    header = world.store.incident(incident_id)
    assert header is not None
    assert (header.state, header.outcome) == (IncidentState.ENDED, "its agents are at home")


def test_agents_without_room_at_home_stay_where_they_run() -> None:
    """A way home is no reason to park anybody."""
    world = Watched(evacuated())
    away = abroad(world, 4)
    order = FailoverOrder(
        OrderKind.FAIL_BACK, "eu", approve(world), 1, world.lease.leadership().term, "eu is back",
        regions=("eu",), avoid=("eu-1", "eu-2"),
    )  # fmt: skip
    result = carry_out(world.ports(), order)
    assert result.placed == ()
    assert {one.agent_id for one in world.store.placements("us-1")} >= set(away)


def test_a_region_that_is_lost_again_takes_the_approvals_with_it() -> None:
    """They were given for a region that was whole."""
    world = Watched(evacuated())
    abroad(world, 2)
    world.look_for(5)
    incident_id = approve(world)
    assert world.controller.state.regions["eu"].evacuation == EVACUATION
    world.kill("eu-1", "eu-2")
    world.look_for(20)
    header = world.store.incident(incident_id)
    assert header is not None
    assert header.state == IncidentState.ENDED
    assert header.outcome.startswith("the region is not whole any more")
    assert not [one for one in world.store.approvals() if one.incident_id == incident_id]


@pytest.mark.parametrize("pauses", [False, True])
def test_a_pause_keeps_everybody_where_they_are_but_not_by_force(pauses: bool) -> None:
    """Force passes the switch; an approval of a fail-back does not."""
    world = Watched(evacuated())
    abroad(world, 2)
    world.look_for(CALM_S + 5)
    if pauses:
        world.store.set_automation(paused=True, by="ann", reason="upgrade")
    approve(world)
    assert bool(world.look_for(10)) is not pauses
    order_failover(world.store, "node", "us-2", "us", "ann", "smoke")
    assert [one.subject for one in world.look_for(30)] == ["us-2"]
