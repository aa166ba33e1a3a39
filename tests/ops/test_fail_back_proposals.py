"""A region that is calm again is proposed, rehearsed and told; nobody goes home unasked."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fleet.errors import TrafficUnavailableError
from fleet.failover_order import OrderKind
from fleet.incident_story import tell_incident
from fleet.incident_timeline import read_incident
from fleet.incidents import IncidentHeader, IncidentState
from fleet.inventory import NodePhase
from fleet.notifications import NotificationPolicy
from fleet.ports.notifier import Alert, Delivery
from fleet.ports.traffic import ConfiguredRouter
from fleet.routes import LiveRoutes, RouteTable
from fleet.service_health import ServicePolicy
from ops.fail_back_rehearsal import find_due, record_rehearsal, rehearse
from ops.failover_ports import TrafficPorts
from platform_defs.command.fail_back import order_fail_back
from sensors.fail_back import AGAIN_S, open_proposals
from sensors.notifications import tell_incidents
from tests.ops.test_failover_standing import CALM_S, EVACUATION, Watched, abroad, evacuated

KEY = f"fail_back:region/eu:{EVACUATION}"


def proposed(agents: int = 3) -> tuple[Watched, IncidentHeader]:
    """A world whose region eu has been calm for long enough, and the proposal."""
    world = Watched(evacuated())
    abroad(world, agents)
    world.look_for(CALM_S + 5)
    [proposal] = open_proposals(world.store)
    return world, proposal


def rehearsed(world: Watched, proposal: IncidentHeader, attempt: int = 1) -> str:
    """What the job does."""
    ports = world.ports()
    return record_rehearsal(ports, proposal.incident_id, rehearse(ports, "eu"), attempt)


def test_nothing_is_proposed_before_the_calm_and_one_thing_after_it() -> None:
    """One open incident, told by its command; it waits for nobody before it is rehearsed."""
    world = Watched(evacuated())
    abroad(world, 3)
    world.look_for(CALM_S - 8)
    assert open_proposals(world.store) == []
    world.look_for(60)
    [proposal] = open_proposals(world.store)
    assert (proposal.kind, proposal.subject, proposal.severity) == ("fail_back", "eu", "warn")
    assert "3 of its agents run elsewhere" in proposal.reason
    assert "`stateroom fail-back eu`" in proposal.reason
    assert proposal.waits_for == ""
    assert proposal.state == IncidentState.OPEN


def test_what_has_been_rehearsed_waits_for_a_person_and_is_told_once() -> None:
    """In the story and to the receivers, however often the controller looks."""
    world, proposal = proposed()
    said = rehearsed(world, proposal)
    assert said == (
        "all 3 agents have a place on 2 running nodes, their states can be read, 0 routers answer"
    )
    assert world.look_for(20) == []
    header = world.store.incident(proposal.incident_id)
    assert header is not None
    assert header.waits_for == KEY
    entries = world.store.journal(header.incident_id)
    story = "\n".join(tell_incident(read_incident(header, entries), world.clock.now()))
    assert said in story
    assert "stateroom fail-back eu --approve" in story
    told = _Receiver()
    memory: str | None = None
    for _ in range(5):
        world.look_for(2)
        _, memory = tell_incidents(
            world.store, told, memory, world.clock.now(), NotificationPolicy()
        )
    [alert] = [one for one in told.alerts if "go home" in one.text]
    assert KEY in alert.text


class _Receiver:
    """A receiver that hears everything."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def deliver(self, alert: Alert, only: Collection[str] = ()) -> Delivery:
        """Keep it."""
        self.alerts.append(alert)
        return Delivery(tuple(only) or ("pager",))


def test_a_persons_word_sends_them_home_and_ends_the_proposal() -> None:
    """The proposal itself takes it: there is one incident, not two."""
    world, proposal = proposed()
    rehearsed(world, proposal)
    world.look_for(5)
    [order] = order_fail_back(world.store, "eu", [KEY], "ann", "power is back")
    assert order.incident_id == proposal.incident_id
    orders = world.look_for(30)
    assert [one.kind for one in orders] == [OrderKind.FAIL_BACK]
    assert orders[0].incident_id == proposal.incident_id
    header = world.store.incident(proposal.incident_id)
    assert header is not None
    assert (header.state, header.outcome) == (IncidentState.ENDED, "its agents are at home")


def test_a_relapse_ends_the_proposal_and_its_rehearsal_and_calm_makes_a_new_one() -> None:
    """One node blinks: what was rehearsed is not true any more."""
    world, proposal = proposed()
    rehearsed(world, proposal)
    world.kill("eu-1")
    world.look_for(4)
    world.dead.clear()
    world.look_for(4)
    header = world.store.incident(proposal.incident_id)
    assert header is not None
    assert header.state == IncidentState.ENDED
    assert "not calm any more" in header.outcome
    assert open_proposals(world.store) == []
    world.look_for(3 * CALM_S)
    [again] = open_proposals(world.store)
    assert again.incident_id != proposal.incident_id
    assert again.waits_for == ""


def test_a_rehearsal_finds_what_stands_in_the_way_and_approves_nothing() -> None:
    """No room, a node that is down, a damaged state, a router that is away."""
    world, proposal = proposed()
    ports = world.ports()
    facts = rehearse(ports, "eu")
    crowd = facts._replace(
        staying=2,
        nodes=[facts.nodes[0]._replace(phase=NodePhase.TERMINATED), *facts.nodes[1:]],
        damaged=("eu-1-a0",),
        routers={"edge": "it does not answer", "inner": ""},
    )
    said = record_rehearsal(ports, proposal.incident_id, crowd, 1)
    assert said == (
        "the rehearsal fails: 2 agents have no place at home, and would stay; "
        "1 of 2 nodes do not run (eu-1 terminated); "
        "the states of 1 agents cannot be read (eu-1-a0); "
        "router edge cannot be asked: it does not answer"
    )
    assert world.store.approvals() == []
    world.look_for(5)
    header = world.store.incident(proposal.incident_id)
    assert header is not None
    assert header.waits_for == ""
    assert said in [one.reason for one in world.store.journal(proposal.incident_id)]


def test_a_rehearsal_without_room_at_home_counts_who_would_stay() -> None:
    """By the planner of the live run; nothing is moved."""
    world, _ = proposed()
    before = world.store.placements()
    shut = {one.node_id for one in world.nodes if one.region == "eu"}
    world.terminated = shut
    facts = rehearse(world.ports(), "eu")
    assert (facts.placed, facts.staying) == (0, 3)
    assert world.store.placements() == before


class _Router:
    """A router that answers, or does not."""

    name = "test"

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def apply_routes(self, tables: Sequence[RouteTable]) -> list[object]:
        """A rehearsal changes nothing."""
        raise AssertionError(tables)

    def live_routes(self, service: str) -> LiveRoutes | None:
        """Nothing is known of the service."""
        self.asked.append(service)
        if not self._answers:
            raise TrafficUnavailableError("connection refused")
        return None


def test_every_router_is_asked_and_none_is_changed() -> None:
    """By a service of its own, where it has any."""
    world, _ = proposed()
    good, bad = _Router(answers=True), _Router(answers=False)
    traffic = TrafficPorts(
        world.store,
        (
            ConfiguredRouter("edge", good, frozenset({"web", "api"})),  # type: ignore[arg-type]
            ConfiguredRouter("inner", bad),  # type: ignore[arg-type]
        ),
        ServicePolicy(),
    )
    facts = rehearse(world.ports()._replace(traffic=traffic), "eu")
    assert facts.routers == {"edge": "", "inner": "connection refused"}
    assert (good.asked, bad.asked) == (["api"], ["rehearsal"])


def test_a_rehearsal_that_fails_is_due_again_at_intervals_one_that_passed_is_not() -> None:
    """The number is the same within an interval, so that a run is asked for once."""
    world, proposal = proposed()

    def due() -> list[tuple[str, int]]:
        given = {(one.incident_id, one.action) for one in world.store.approvals()}
        found = find_due(
            open_proposals(world.store), lambda *name: name in given, world.clock.now(), AGAIN_S
        )
        return [(one.incident_id, number) for one, number in found]

    assert due() == due() == [(proposal.incident_id, 1)]
    world.clock.advance(AGAIN_S)
    world.beat()
    assert due() == [(proposal.incident_id, 2)]
    rehearsed(world, proposal, 2)
    assert due() == []


def test_a_proposal_that_has_ended_takes_no_result() -> None:
    """The region was lost while it was rehearsed."""
    world, proposal = proposed()
    header = world.store.incident(proposal.incident_id)
    assert header is not None
    world.store.update_incident(
        header._replace(state=IncidentState.ENDED, ended_at=world.clock.now(), outcome="lost again")
    )
    assert "has ended meanwhile" in rehearsed(world, proposal)
    assert world.store.approvals() == []


def test_a_state_that_cannot_be_read_is_named() -> None:
    """It could not start at home; an agent that never stored one could."""
    world, _ = proposed()
    world.store.damage_state("eu-1-a0", b"damaged")
    assert rehearse(world.ports(), "eu").damaged == ("eu-1-a0",)
