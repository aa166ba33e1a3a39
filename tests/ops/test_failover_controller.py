"""The controller in a small fleet: sees, decides, hands out one order, ends what it opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from fleet.failover.profiles import EMBEDDED
from fleet.failover.records import ControllerState, NodeState
from fleet.failover_declaration import FailoverDeclaration
from fleet.failover_order import OrderKind
from fleet.incidents import IncidentState
from fleet.inventory import AgentPhase
from fleet.leases import node_lease_name
from fleet.ports.infrastructure import InfrastructureVerdict
from fleet.ports.notifier import Alert
from fleet.probe_reports import NodeContact, Probe, ProbeOutcome, ProbeReport
from fleet.probing import EMBEDDED_PROBING, plan_probes
from fleet.reports import AgentReport
from ops.failover_controller import FailoverController, Tick
from ops.failover_evidence import EvidenceReader, WatchPorts
from ops.failover_run import carry_out
from resources.controller_prober import ControllerProber
from resources.leader_lease import LeaderLease
from tests.ops.failover_world import LEADER, FailoverWorld

TARGETS = {"eu": ("us",), "us": ("eu",)}


class Told(NamedTuple):
    """What people were told."""

    alerts: list[Alert]

    def notify(self, alert: Alert) -> None:
        """Keep it."""
        self.alerts.append(alert)


class _ProcessTable:
    """Says which nodes of a world have ended."""

    def __init__(self, world: FailoverWorld) -> None:
        self._world = world

    def verdicts(self, node_ids: object = None) -> list[InfrastructureVerdict]:
        """Those of the world."""
        del node_ids
        from fleet.inventory import NodePhase

        now = self._world.clock.now()
        return [
            InfrastructureVerdict(one, NodePhase.TERMINATED, "boot", now, "it has vanished")
            for one in sorted(self._world.terminated)
        ]

    def wait(self, timeout_s: float) -> bool:
        """Nobody waits here."""
        raise AssertionError(timeout_s)


class WatchedWorld(FailoverWorld):
    """A world whose nodes probe each other, and a controller that looks once a second."""

    def __init__(self, policy: object = EMBEDDED) -> None:
        """The controller has looked a few times: all is well."""
        super().__init__()
        self.rounds = 0
        self.told = Told([])
        self.store.release_lease(self.leader)
        lease = LeaderLease(self.store, LEADER, now_s=self.clock.monotonic_s)
        ports = WatchPorts(self.store, self.clock, lease, _Prober(self), _ProcessTable(self))
        declaration = FailoverDeclaration(policy=policy, targets=TARGETS)  # type: ignore[arg-type]
        reader = EvidenceReader(ports, declaration.policy, EMBEDDED_PROBING, "clock")
        self.lease = lease
        self.controller = FailoverController(ports, reader, declaration, self.told)
        for _ in range(6):
            self.look()

    def tick(self) -> None:
        """What happens all the time."""
        self.beat()

    def beat(self) -> None:
        """Nodes report, and say whom they reach."""
        super().beat()
        if not hasattr(self, "rounds"):
            return
        self.rounds += 1
        plan = plan_probes(self.store.roster().members, EMBEDDED_PROBING)
        for observer, targets in plan.targets.items():
            if observer in self.dead:
                continue
            probes = tuple(self.probe(one) for one in targets)
            self.store.report_probes(
                ProbeReport(observer, "boot", self.rounds, self.clock.now(), probes)
            )

    def probe(self, node_id: str) -> Probe:
        """What anybody sees of a node."""
        if node_id in self.dead:
            return Probe(node_id, ProbeOutcome.SILENT, "", 5, None, "no answer")
        return Probe(node_id, ProbeOutcome.ANSWERED, "boot", 0, 1.0, "")

    def look(self) -> Tick:
        """A second passes, and the controller looks."""
        self.clock.advance(1.0)
        self.beat()
        self.lease.campaign()
        return self.controller.tick()

    def look_until_ordered(self, at_most: int = 30) -> Tick:
        """Until an order is handed out."""
        for _ in range(at_most):
            tick = self.look()
            if tick.orders:
                return tick
        raise AssertionError("nothing was ordered")

    def carry_out(self, tick: Tick) -> None:
        """As the job does."""
        for order in tick.orders:
            carry_out(self.ports(), order)


class _Prober(ControllerProber):
    """The controller's own probes of a world, without a network."""

    def __init__(self, world: WatchedWorld) -> None:
        self._world = world

    def probe(self, contacts: Sequence[NodeContact]) -> list[Probe]:
        """As everybody sees them."""
        return [self._world.probe(one.node_id) for one in contacts]


def test_a_process_that_ended_is_ordered_away_in_the_next_look() -> None:
    """One incident, one order, under our term; and the story ends once the agents run."""
    world = WatchedWorld()
    world.kill("eu-1", terminated=True)
    tick = world.look()
    (order,) = tick.orders
    assert (order.kind, order.subject, order.nodes) == (OrderKind.NODE, "eu-1", ("eu-1",))
    assert order.term == world.lease.leadership().term
    (incident,) = world.store.incidents(open_only=True)
    assert incident.incident_id == order.incident_id
    assert "terminated" in incident.reason
    assert world.look().orders == ()
    world.carry_out(tick)
    for _ in range(5):
        world.look()
    ended = world.store.incident(order.incident_id)
    assert ended is not None
    assert (ended.state, ended.outcome) == (
        IncidentState.ENDED,
        "its agents run elsewhere or are parked",
    )


def test_a_silent_node_is_moved_by_votes_and_only_after_its_lease() -> None:
    """Suspicion alone moves nothing; seconds later a majority and the lease's end do."""
    world = WatchedWorld()
    world.kill("eu-1")
    killed_s = world.clock.monotonic_s()
    tick = world.look_until_ordered()
    assert world.clock.monotonic_s() - killed_s >= 5.0
    lease = world.store.lease(node_lease_name("eu-1"))
    assert lease is not None
    assert world.clock.now() > lease.expires_at
    assert tick.orders[0].nodes == ("eu-1",)


def test_a_node_that_only_lost_its_heartbeat_is_never_moved() -> None:
    """Others reach it: an alert, and everything stays."""
    world = WatchedWorld()
    world.dead.add("eu-1")
    world.probe = lambda node_id: Probe(node_id, ProbeOutcome.ANSWERED, "boot", 0, 1.0, "")  # type: ignore[method-assign]
    for _ in range(30):
        assert world.look().orders == ()
    assert any("eu-1" in one.text for one in world.told.alerts)
    assert {one.node_id for one in world.store.placements() if one.agent_id[:4] == "eu-1"} == {
        "eu-1"
    }


def test_a_lost_region_is_one_order_into_the_other() -> None:
    """Not a hundred single moves into what is lost as well."""
    world = WatchedWorld()
    world.kill("eu-1", "eu-2", terminated=True)
    tick = world.look_until_ordered()
    (order,) = tick.orders
    assert (order.kind, order.subject) == (OrderKind.REGION, "eu")
    assert (order.nodes, order.regions) == (("eu-1", "eu-2"), ("us",))
    assert order.head_room == pytest.approx(0.1)
    world.carry_out(tick)
    where = {one.node_id for one in world.store.placements() if one.agent_id.startswith("eu")}
    assert where == {"us-1", "us-2"}


def test_a_controller_that_does_not_lead_orders_nothing() -> None:
    """It watches, so that it can go on when the other one dies."""
    world = WatchedWorld()
    world.lease.resign()
    other = LeaderLease(world.store, "controller-2", now_s=world.clock.monotonic_s)
    other.campaign()
    world.kill("eu-1", terminated=True)
    for _ in range(5):
        other.campaign()
        tick = world.look()
        assert (tick.orders, tick.decision.controller) == ((), ControllerState.STANDBY)
    assert world.store.incidents() == []


def test_a_store_that_is_away_freezes_the_controller_and_its_return_thaws_it() -> None:
    """And nothing that died meanwhile is believed dead at once: all ages restart."""
    from fleet.errors import StoreUnavailableError

    world = WatchedWorld()
    beats = world.store.node_beats

    def away() -> object:
        raise StoreUnavailableError("gone", hint="")

    world.store.node_beats = away  # type: ignore[method-assign,assignment]
    tick = world.look()
    assert tick.decision.controller == ControllerState.FROZEN
    world.store.node_beats = beats  # type: ignore[method-assign]
    states = [world.look().decision.controller for _ in range(6)]
    assert states[-1] == ControllerState.ACTIVE
    assert ControllerState.FROZEN not in states[states.index(ControllerState.ACTIVE) :]


def test_a_pause_of_the_automation_orders_nothing_and_says_who() -> None:
    """Everything is watched and told all the same."""
    world = WatchedWorld()
    world.store.set_automation(paused=True, by="ada", reason="migration")
    world.kill("eu-1", terminated=True)
    for _ in range(4):
        assert world.look().orders == ()
    missed = world.controller.tick().decision.non_actions
    assert any("ada: migration" in str(one.reasons) for one in missed)
    world.store.set_automation(paused=False, by="ada", reason="done")
    assert world.look_until_ordered().orders[0].subject == "eu-1"


def test_a_person_can_force_what_no_evidence_asks_for() -> None:
    """A living node is drained by order, in the name of the incident that was opened for it."""
    from fleet.incidents import IncidentKind, IncidentOpening

    world = WatchedWorld()
    opening = IncidentOpening(
        IncidentKind.NODE, "eu-1", "eu", "ordered by ada", world.clock.now(), 0
    )
    incident = world.store.open_incident(opening)
    world.store.approve_action(incident.incident_id, "forced:node/eu-1", "ada", "drain")
    tick = world.look_until_ordered()
    (order,) = tick.orders
    assert (order.subject, order.forced, order.incident_id) == (
        "eu-1",
        True,
        incident.incident_id,
    )
    world.carry_out(tick)
    assert world.store.placements("eu-1") == []
    for _ in range(8):
        assert world.look().orders == ()
    ended = world.store.incident(incident.incident_id)
    assert ended is not None
    assert ended.state == IncidentState.ENDED


def test_an_agent_in_a_crash_loop_is_parked_where_it_is() -> None:
    """It does not tour the fleet."""
    world = WatchedWorld()
    report = world._report

    def crashing(node_id: str) -> object:
        found = report(node_id)
        agents = tuple(
            one._replace(restarts=3, phase=AgentPhase.FAILED) if one.agent_id == "eu-1-a0" else one
            for one in found.agents
        )
        return found._replace(agents=agents)

    world._report = crashing  # type: ignore[method-assign,assignment]
    for _ in range(12):
        world.look()
    (parked,) = [one for one in world.store.placements() if one.desired == "parked"]
    assert parked.agent_id == "eu-1-a0"
    assert "crash loops must not tour the fleet" in parked.reason


def test_a_node_that_came_back_is_let_in_only_when_its_old_copies_have_ended() -> None:
    """What it reports is held against the placements of now."""
    world = WatchedWorld()
    world.kill("eu-1")
    tick = world.look_until_ordered(60)
    world.carry_out(tick)
    world.look()
    old = [
        AgentReport(f"eu-1-a{n}", 1, AgentPhase.RUNNING, 1, None, None, 0, None, None, "")
        for n in range(4)
    ]
    report = world._report
    world._report = (  # type: ignore[method-assign]
        lambda name: report(name)._replace(agents=tuple(old)) if name == "eu-1" else report(name)
    )
    world.dead.clear()

    def state() -> NodeState:
        mark = world.controller.state.nodes.get("eu-1")
        return NodeState.HEALTHY if mark is None else mark.state

    for _ in range(40):
        world.look()
    assert world.store.stale_copies(["eu-1"]) == {"eu-1": 4}
    assert state() is NodeState.PROBATION
    old.clear()
    for _ in range(10):
        world.look()
    assert state() is NodeState.HEALTHY


def _refusing(world: WatchedWorld, name: str) -> list[str]:
    """Let one of the store's writes fail for as long as the list is not empty."""
    from fleet.errors import StoreUnavailableError

    failing, whole = ["locked"], getattr(world.store, name)

    def write(*args: object, **kwargs: object) -> object:
        if failing:
            raise StoreUnavailableError("locked", hint="")
        return whole(*args, **kwargs)

    setattr(world.store, name, write)
    return failing


@pytest.mark.parametrize("write", ["open_incident", "append_journal"])
def test_an_incident_that_could_not_be_opened_is_opened_as_soon_as_that_can_be_done(
    write: str,
) -> None:
    """The move waits until it can be written down; then there is one incident, with an end."""
    world = WatchedWorld()
    world.kill("eu-1", terminated=True)
    failing = _refusing(world, write)
    tick = world.look()
    assert tick.orders == ()
    assert any("open_incident" in fault for fault in tick.faults)
    failing.clear()
    world.look()
    (incident,) = world.store.incidents()
    assert incident.state == IncidentState.OPEN
    steps = [one.step for one in world.store.journal(incident.incident_id)]
    assert len([one for one in steps if "open_incident" in one]) == 1
    tick = world.look_until_ordered()
    assert [one.incident_id for one in tick.orders] == [incident.incident_id]
    world.carry_out(tick)
    for _ in range(5):
        world.look()
    (incident,) = world.store.incidents()
    assert incident.state == IncidentState.ENDED


def test_a_crash_loop_that_could_not_be_parked_is_parked_as_soon_as_that_can_be_done() -> None:
    """The decision asks once; what the store refused for now is not forgotten."""
    world = WatchedWorld()
    report = world._report

    def crashing(node_id: str) -> object:
        found = report(node_id)
        agents = tuple(
            one._replace(restarts=3, phase=AgentPhase.FAILED) if one.agent_id == "eu-1-a0" else one
            for one in found.agents
        )
        return found._replace(agents=agents)

    world._report = crashing  # type: ignore[method-assign,assignment]
    failing = _refusing(world, "place_agents")
    faults = [fault for _ in range(12) for fault in world.look().faults]
    assert any("park_agent" in fault for fault in faults)
    failing.clear()
    world.look()
    parked = [one.agent_id for one in world.store.placements() if one.desired == "parked"]
    assert parked == ["eu-1-a0"]


def test_a_termination_counts_also_when_the_lease_was_taken_away() -> None:
    """A run has fenced the node and died; the word about its last boot is as good as before."""
    world = WatchedWorld()
    world.kill("eu-1", terminated=True)
    tick = world.look()
    for _ in range(10):
        world.look()
    assert world.store.fence_nodes(["eu-1"], tick.orders[0].term) == ["eu-1"]
    for _ in range(5):
        world.look()
        mark = world.controller.state.nodes["eu-1"]
        assert (mark.state, mark.confirmed_by) == (NodeState.FENCED, "terminated")
