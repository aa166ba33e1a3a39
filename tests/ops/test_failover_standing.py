"""A live controller on a small world: force, freezes that are told, and the way home in steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.failover.profiles import EMBEDDED
from fleet.failover.records import (
    ControllerState,
    FailoverState,
    RegionMark,
    RegionState,
)
from fleet.failover_declaration import FailoverDeclaration
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.incidents import IncidentHeader, IncidentKind, IncidentOpening, IncidentState
from fleet.leases import LEADER_LEASE
from fleet.ports.notifier import Alert
from fleet.probe_reports import Probe, ProbeOutcome, ProbeReport
from fleet.probing import EMBEDDED_PROBING
from ops.failover_controller import FailoverController, Tick
from ops.failover_evidence import EvidenceReader, WatchPorts
from ops.failover_run import carry_out
from platform_defs.command.fail_back import order_fail_back
from platform_defs.command.forced_orders import order_failover
from resources.controller_probes import ControllerProbes
from resources.leader_lease import LeaderLease
from tests.ops.failover_world import LEADER, FailoverWorld

CLOCK_ID = "this-process"
EVACUATION = "region-eu-20260301T110000"
STEP_S = EMBEDDED.tick_interval_s / 2


class Told:
    """A notifier that remembers."""

    def __init__(self) -> None:
        """Nobody was told anything."""
        self.alerts: list[Alert] = []

    def notify(self, alert: Alert) -> None:
        """Remember it."""
        self.alerts.append(alert)


class Watched(FailoverWorld):
    """The world, watched by a controller; nodes probe each other."""

    def __init__(self, state: FailoverState | None = None, **policy: float) -> None:
        """One controller, which leads."""
        super().__init__()
        self.told = Told()
        self.probing = True
        self.round = 0
        self.leader_lease = LeaderLease(self.store, LEADER, now_s=self.clock.monotonic_s)
        declaration = FailoverDeclaration(
            policy=replace(EMBEDDED, **policy),  # type: ignore[arg-type]
            targets={"eu": ("us",), "us": ("eu",)},
        )
        probes = ControllerProbes(self.store, EMBEDDED_PROBING)
        ports = WatchPorts(self.store, self.clock, self.leader_lease, probes)
        reader = EvidenceReader(ports, declaration.policy, EMBEDDED_PROBING, CLOCK_ID)
        self.controller = FailoverController(ports, reader, declaration, self.told, state)

    def beat(self) -> None:
        """Nodes report, and tell whom they reached."""
        super().beat()
        if not getattr(self, "probing", False):
            return
        self.round += 1
        for node in self.nodes:
            if node.node_id in self.dead:
                continue
            seen = tuple(
                Probe(one.node_id, ProbeOutcome.ANSWERED, "boot", 0, 1.0, "")
                for one in self.nodes
                if one is not node and one.node_id not in self.dead
            )
            self.store.report_probes(
                ProbeReport(node.node_id, "boot", self.round, self.clock.now(), seen)
            )

    def look(self) -> Tick:
        """Half a regular tick later, everything that works reports, and the controller looks."""
        self.clock.advance(STEP_S)
        self.leader = self.store.acquire_lease(LEADER_LEASE, LEADER, 15.0)
        self.leader_lease.campaign()
        self.beat()
        return self.controller.tick()

    def look_for(self, seconds: float) -> list[FailoverOrder]:
        """Look again and again; carry out what is ordered."""
        orders = []
        for _ in range(int(seconds / STEP_S)):
            tick = self.look()
            assert not tick.faults, tick.faults
            for order in tick.orders:
                orders.append(order)
                carry_out(self.ports(), order)
                self.round += 100
        return orders

    def open_one(self, kind: IncidentKind) -> list[IncidentHeader]:
        """Open incidents of a kind."""
        return [one for one in self.store.incidents(open_only=True) if one.kind == kind]


def test_a_forced_order_is_given_by_the_next_look_and_ends_with_its_incident() -> None:
    """A node that is well is given up, because a person says so."""
    world = Watched()
    world.look_for(5 * STEP_S)
    assert world.controller.state.controller is ControllerState.ACTIVE
    given = order_failover(world.store, "node", "eu-1", "eu", "ann", "smoke")
    orders = world.look_for(60)
    assert orders[0].forced
    assert (orders[0].subject, orders[0].incident_id) == ("eu-1", given.incident_id)
    assert world.store.placements("eu-1") == []
    header = world.store.incident(given.incident_id)
    assert header is not None
    assert header.state == IncidentState.ENDED, header
    assert world.store.approvals() == []


def test_a_freeze_is_an_incident_that_ends_with_it() -> None:
    """No majority of the observers reports: people are told why nothing is moved."""
    world = Watched()
    world.look_for(5 * STEP_S)
    world.probing = False
    world.look_for(30)
    assert world.controller.state.controller is ControllerState.FROZEN
    (header,) = world.open_one(IncidentKind.CONTROLLER)
    assert header.reason == (
        "failover is frozen, nothing is moved: no majority of the configured observers reports"
    )
    world.probing = True
    world.look_for(10)
    assert world.open_one(IncidentKind.CONTROLLER) == []
    ended = world.store.incident(header.incident_id)
    assert ended is not None
    assert ended.outcome == "the controller trusts what it sees again; all ages have restarted"
    resolved = [one for one in world.told.alerts if one.severity == "resolved"]
    assert [one.subject for one in resolved] == ["controller/controller"]


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
    world.store.place_agents(
        [one._replace(node_id="us-1", region="us", term=world.leader.term) for one in moved]
    )
    return [one.agent_id for one in moved]


def approve(world: Watched) -> str:
    """A person rehearses and approves; the incident that holds both."""
    actions = ["rehearsed:eu", f"fail_back:region/eu:{EVACUATION}"]
    (first, _) = order_fail_back(world.store, "eu", actions, "ann", "power is back")
    return first.incident_id


def test_approved_agents_go_home_in_steps_after_the_calm() -> None:
    """Each step is a run of its own; the incident ends when the last one is at home."""
    world = Watched(evacuated(), fail_back_step_agents=3)
    away = abroad(world, 7)
    assert world.look_for(EMBEDDED.fail_back_calm_s + 5) == []
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
    world.kill("eu-1", "eu-2")
    world.pass_time(10)
    order = FailoverOrder(
        OrderKind.FAIL_BACK, "eu", approve(world), 1, world.leader.term, "eu is back",
        regions=("eu",),
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
    mark = world.controller.state.regions["eu"]._replace(state=RegionState.NORMAL)
    assert mark.evacuation == EVACUATION
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
    world.look_for(EMBEDDED.fail_back_calm_s + 5)
    if pauses:
        world.store.set_automation(paused=True, by="ann", reason="upgrade")
    approve(world)
    assert bool(world.look_for(10)) is not pauses
    order_failover(world.store, "node", "us-2", "us", "ann", "smoke")
    assert [one.subject for one in world.look_for(30)] == ["us-2"]
