"""A failover run moves what is lost, once, whole, and under its term, however often it dies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from fleet.errors import LeaseLostError, NodeUnavailableError, PermanentError
from fleet.failover_moves import read_plans
from fleet.failover_order import OrderKind
from fleet.incident_timeline import read_incident
from fleet.incidents import IncidentKind, IncidentState
from fleet.inventory import NodePhase
from fleet.leases import LEADER_LEASE
from fleet.ports.infrastructure import InfrastructureVerdict
from fleet.ports.state_rescue import RescuedState
from ops.failover_jobs import failover_request
from ops.failover_run import carry_out
from ops.failover_states import RESTORE_ATTEMPTS
from ops.placement import place_waiting
from tests.ops.failover_world import TTL_S, BackupOf, CrashedError, CrashingCalls, FailoverWorld

LOST = tuple(f"eu-1-a{n}" for n in range(4))


def test_the_agents_of_a_silent_node_run_elsewhere_with_their_states() -> None:
    """Once its lease has run out; the incident tells what was done."""
    world = FailoverWorld()
    world.kill("eu-1")
    world.pass_time(3)
    order = world.order("eu-1")
    result = carry_out(world.ports(), order)
    assert result.fencing.fenced == ("eu-1",)
    assert result.arrival.running == LOST
    assert {one.node_id for one in result.placed} == {"eu-2"}
    assert {world.running()[one] for one in LOST} == {"eu-2"}
    for agent_id in LOST:
        state = world.store.state(agent_id)
        assert state is not None
        assert state.body == b"state of " + agent_id.encode()
    header = world.store.incident(order.incident_id)
    assert header is not None
    assert header.state == IncidentState.ACTING
    incident = read_incident(header, world.store.journal(order.incident_id))
    assert incident.losses.moved == 4
    steps = [one.step for one in incident.timeline]
    assert steps == ["recheck", "fence", "plan", "restore", "move", "start", "ready"]


def test_a_stopped_agent_of_a_lost_node_is_left_alone_and_comes_back_with_its_state() -> None:
    """Nobody moves what does not run; its room is nobody's any more, its state is its own."""
    world = FailoverWorld()
    stopped = world.store.placements("eu-1")[0]
    world.store.place_agents([stopped._replace(desired="stopped", reason="scaled to 7 in eu")])
    world.kill("eu-1")
    world.pass_time(3)
    result = carry_out(world.ports(), world.order("eu-1"))
    assert {one.agent_id for one in result.placed} == {*LOST} - {stopped.agent_id}
    (released,) = world.store.release_ended()
    assert (released.agent_id, released.node_id) == (stopped.agent_id, "")
    world.store.place_agents([released._replace(desired="running")])
    place_waiting(world.store, ["eu-2"], now=world.clock.now(), term=world.leader.term)
    (back,) = [one for one in world.store.placements("eu-2") if one.agent_id == stopped.agent_id]
    state = world.store.state(stopped.agent_id)
    assert state is not None
    assert state.body == b"state of " + stopped.agent_id.encode()
    assert not world.put(stopped.agent_id, b"of a zombie", epoch=stopped.epoch)
    assert world.put(stopped.agent_id, b"later", epoch=back.epoch)


def test_a_process_that_ended_needs_no_waiting() -> None:
    """Its lease still runs, and yet nothing can write there."""
    world = FailoverWorld()
    world.kill("eu-1", terminated=True)
    before = world.clock.monotonic_s()
    carry_out(world.ports(), world.order("eu-1"))
    assert world.clock.monotonic_s() - before < 1.0


def test_a_node_that_reports_again_keeps_its_agents() -> None:
    """Between the decision and the act it came back: nothing is moved, and the journal says why."""
    world = FailoverWorld()
    order = world.order("eu-1")
    world.pass_time(2)
    result = carry_out(world.ports(), order)
    assert result.placed == ()
    assert result.fencing.fenced == ()
    told = [one for one in world.store.journal(order.incident_id) if one.step == "recheck/1"]
    assert (
        told[-1].reason == "0 of 1 nodes are still silent; eu-1 reported again and stay as they are"
    )


def test_a_node_that_wakes_while_its_lease_is_waited_for_keeps_its_agents() -> None:
    """A renewal is a sign of life; the run waits no longer."""
    world = FailoverWorld()
    world.kill("eu-1")
    order = world.order("eu-1")
    ports = world.ports()
    world.clock.on_pause = lambda: (world.dead.clear(), world.tick())  # type: ignore[assignment]
    result = carry_out(ports, order)
    assert (result.fencing.alive, result.placed) == (("eu-1",), ())


def test_a_zombie_writes_nothing_after_the_move() -> None:
    """Neither its state nor its heartbeat is accepted."""
    world = FailoverWorld()
    world.kill("eu-1")
    world.pass_time(6)
    carry_out(world.ports(), world.order("eu-1"))
    assert not world.put(LOST[0], b"of a zombie", epoch=1)
    assert world.put(LOST[0], b"of the living", epoch=2)


def test_without_the_lead_nothing_is_touched() -> None:
    """Another controller has taken over between decision and act."""
    world = FailoverWorld()
    world.kill("eu-1", terminated=True)
    order = world.order("eu-1")
    world.store.release_lease(world.leader)
    world.leader = world.store.acquire_lease(LEADER_LEASE, "controller-2", 15.0)
    before = world.store.placements()
    with pytest.raises(LeaseLostError):
        carry_out(world.ports(), order)
    assert world.store.placements() == before


def test_a_lead_that_is_lost_before_the_switch_moves_nobody() -> None:
    """The store judges the term inside the transaction of the move."""
    world = FailoverWorld()
    world.kill("eu-1", terminated=True)
    order = world.order("eu-1")
    store = world.store
    states = store.states

    def lose_the_lead(agent_ids):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        store.release_lease(world.leader)
        world.leader = store.acquire_lease(LEADER_LEASE, "controller-2", 15.0)
        return states(agent_ids)

    store.states = lose_the_lead  # type: ignore[method-assign]
    before = store.placements()
    with pytest.raises(LeaseLostError):
        carry_out(world.ports(), order)
    assert store.placements() == before
    last = store.journal(order.incident_id)[-1]
    assert (last.step, last.status) == ("move/1-0000", "failed")


def test_a_pause_holds_unless_a_person_forces_the_order() -> None:
    """The switch is looked at when acting, not only when deciding."""
    world = FailoverWorld()
    world.kill("eu-1", terminated=True)
    world.store.set_automation(paused=True, by="ada", reason="migration")
    with pytest.raises(PermanentError, match="ada has paused the automation: migration"):
        carry_out(world.ports(), world.order("eu-1"))
    assert carry_out(world.ports(), world.order("eu-1", forced=True)).arrival.running == LOST


def test_a_forced_order_stops_the_agents_of_a_living_node_first() -> None:
    """Nobody runs twice, not even for a moment."""
    world = FailoverWorld()
    order = world.order("eu-1", forced=True)
    ports = world.ports()
    stopped: list[str] = []

    def evict(agent_id: str, epoch: int, grace_s: float) -> None:
        assert (epoch, grace_s > 0) == (1, True)
        assert agent_id not in {one.agent_id for one in world.store.placements("eu-2")}
        stopped.append(agent_id)

    result = carry_out(ports._replace(evict=evict), order)
    assert sorted(stopped) == list(LOST)
    assert result.arrival.running == LOST


def test_a_forced_order_asks_nothing_of_its_node_after_its_incident_has_ended() -> None:
    """An attempt that never got as far as a plan is taken up late: nobody is stopped or killed."""
    world = FailoverWorld()
    order = world.order("eu-1", forced=True)
    header = world.store.incident(order.incident_id)
    assert header is not None
    ended = header._replace(state=IncidentState.ENDED, ended_at=world.clock.now(), outcome="done")
    world.store.update_incident(ended)
    fencer = _Infrastructure(world, NodePhase.TERMINATED)
    for evict in (world.ports().evict, _unanswering):
        result = carry_out(world.ports()._replace(evict=evict, fencer=fencer), order)
        assert (result.placed, result.fencing.alive) == ((), ("eu-1",))
        assert "the incident has ended" in result.fencing.how
    assert (world.stopped, fencer.asked) == (set(), [])
    assert {one.epoch for one in world.store.placements("eu-1")} == {1}


def test_a_forced_order_stops_only_whom_it_moves() -> None:
    """Who comes after the plan is not in it: stopped, it would stay down where it is placed."""
    world = FailoverWorld()
    order = world.order("eu-1", forced=True)
    with pytest.raises(CrashedError):
        carry_out(world.ports(_DyingAtTheSwitch(world.store, 0, after=False)), order)
    assert world.stopped == {(one, 1) for one in LOST}
    (late,) = [one for one in world.store.placements("eu-2") if one.agent_id == "eu-2-a0"]
    world.store.place_agents([late._replace(node_id="eu-1")])
    assert carry_out(world.ports(), order).arrival.running == LOST
    assert world.stopped == {(one, 1) for one in LOST}
    assert world.running()["eu-2-a0"] == "eu-1"
    second = carry_out(world.ports(), order._replace(attempt=2))
    assert {one.agent_id for one in second.placed} == {"eu-2-a0"}
    assert ("eu-2-a0", 2) in world.stopped


def test_who_finds_no_room_is_parked_with_the_reason() -> None:
    """And the incident counts it."""
    world = FailoverWorld(cpu_milli=500)
    world.kill("eu-1", terminated=True)
    order = world.order("eu-1")
    result = carry_out(world.ports(), order)
    assert result.parked == 3
    reasons = {one.reason for one in result.placed if one.desired == "parked"}
    assert reasons == {
        "node eu-1 was lost; parked: no node of eu has room: eu-2 has cpu_milli 0 of 100"
    }


def test_who_would_have_a_place_on_a_doubted_node_waits_for_it() -> None:
    """Parking is for good, a probation is not: the next attempt takes the node that is well."""
    world = FailoverWorld()
    world.kill("eu-1", terminated=True)
    waiting = carry_out(world.ports(), world.order("eu-1", avoid=("eu-1", "eu-2")))
    assert waiting.placed == ()
    assert {one.agent_id for one in world.store.placements("eu-1")} == set(LOST)
    (step,) = [
        one
        for one in world.store.journal(world.order("eu-1").incident_id)
        if one.step.startswith("plan/1")
    ]
    assert step.reason == (
        "0 agents have a place, 0 have none, 4 wait for a node that is down or in doubt"
    )
    result = carry_out(world.ports(), world.order("eu-1", attempt=2, avoid=("eu-1",)))
    assert result.arrival.running == LOST


def test_agents_of_two_lost_nodes_wait_for_the_regions_verdict() -> None:
    """Parked by the first node's order, they would be left behind by the evacuation."""
    world = FailoverWorld()
    world.kill("eu-1", "eu-2", terminated=True)
    assert carry_out(world.ports(), world.order("eu-1")).placed == ()
    order = world.order("eu-1", "eu-2", kind=OrderKind.REGION, regions=("us",), attempt=2)
    assert len(carry_out(world.ports(), order).arrival.running) == 8


def test_orders_that_share_a_regions_incident_share_no_plan_and_no_run() -> None:
    """Two nodes and their region, each in its first attempt, in the region's one incident."""
    world = FailoverWorld()
    world.kill("eu-1", "eu-2", terminated=True)
    shared = {"incident_id": "region-eu-1", "attempt": 1}
    orders = [
        world.order("eu-1")._replace(**shared),
        world.order("eu-2")._replace(**shared),
        world.order("eu-1", "eu-2", kind=OrderKind.REGION, regions=("us",))._replace(**shared),
    ]
    assert len({failover_request(one).run_key for one in orders}) == 3
    done = [carry_out(world.ports(), one) for one in orders]
    assert [len(one.placed) for one in done] == [0, 0, 8]
    plans = {one.step for one in world.store.journal("region-eu-1") if one.step.startswith("plan/")}
    assert plans == {"plan/node-eu-1.1-0000", "plan/node-eu-2.1-0000", "plan/1-0000"}


@pytest.mark.parametrize(
    "changes", [{"attempt": 5}, {"forced": True}], ids=["too often", "by force"]
)
def test_nobody_waits_for_ever_or_against_a_persons_order(changes: dict[str, object]) -> None:
    """A doubt that does not end parks in the fifth attempt; force parks at once."""
    world = FailoverWorld()
    world.kill("eu-1", terminated=True)
    result = carry_out(world.ports(), world.order("eu-1", avoid=("eu-1", "eu-2"), **changes))
    assert result.parked == 4


def test_who_has_no_place_even_without_doubts_is_parked_at_once() -> None:
    """The doubted node has room for one agent: three have nothing to wait for."""
    world = FailoverWorld(cpu_milli=500)
    world.kill("eu-1", terminated=True)
    result = carry_out(world.ports(), world.order("eu-1", avoid=("eu-1", "eu-2")))
    assert result.parked == 3
    assert len(world.store.placements("eu-1")) == 1


def test_a_region_goes_to_the_next_with_head_room() -> None:
    """Nobody is put onto what is left of the region; survivors keep what they must."""
    world = FailoverWorld()
    world.kill("eu-1", "eu-2", terminated=True)
    order = world.order(
        "eu-1", "eu-2", kind=OrderKind.REGION, regions=("us",), head_room=0.4, avoid=()
    )
    result = carry_out(world.ports(), order)
    where = {one.node_id for one in result.placed if one.desired == "running"}
    assert where == {"us-1", "us-2"}
    assert (len(result.arrival.running), result.parked) == (4, 4)


def test_a_lost_state_comes_back_before_its_agent_starts() -> None:
    """The loss is told in versions; agents that never stored anything are no loss."""
    world = FailoverWorld()
    world.kill("eu-1", terminated=True)
    del world.store._states[LOST[0]]
    del world.store._states[LOST[1]]
    backup = BackupOf(world, {LOST[0]: (1, b"from the backup")})
    result = carry_out(world.ports(rescue=backup), world.order("eu-1"))
    assert backup.asked == [(LOST[0], LOST[1])]
    assert result.arrival.running == LOST
    state = world.store.state(LOST[0])
    assert state is not None
    assert state.body == b"from the backup"


def test_a_damaged_state_without_a_backup_parks_its_agent() -> None:
    """It would start empty and overwrite what somebody may still repair."""
    world = FailoverWorld()
    world.kill("eu-1", terminated=True)
    state = world.store._states[LOST[0]]
    world.store._states[LOST[0]] = state._replace(body=b"damaged")
    result = carry_out(world.ports(), world.order("eu-1"))
    assert result.arrival.running == LOST[1:]
    (parked,) = [one for one in result.placed if one.desired == "parked"]
    assert parked.agent_id == LOST[0]
    assert "its state is damaged, and no backup holds another" in parked.reason


class _Vaults:
    """`StateRescue` whose vaults do not answer so many times, and then hold what a backup holds."""

    def __init__(self, failures: int, backup: BackupOf) -> None:
        self._failures, self._backup = failures, backup

    def rescue_states(
        self, network_id: str, agent_ids: Sequence[str], lost_regions: object
    ) -> list[RescuedState]:
        """As told at the start."""
        self._failures -= 1
        if self._failures < 0:
            return self._backup.rescue_states(network_id, agent_ids, lost_regions)
        return [RescuedState(one, 0, None, "", "no vault answers") for one in agent_ids]


@pytest.mark.parametrize("failures", range(RESTORE_ATTEMPTS + 1))
def test_a_restore_that_fails_is_tried_by_each_attempt_and_parks_with_the_last(
    failures: int,
) -> None:
    """Until then its agent stays where it was placed, and its neighbours do not wait for it."""
    world = FailoverWorld()
    world.kill("eu-1", terminated=True)
    del world.store._states[LOST[0]]
    vaults = _Vaults(failures, BackupOf(world, {LOST[0]: (1, b"from the backup")}))
    ports = world.ports()._replace(rescue=vaults)
    for attempt in range(1, RESTORE_ATTEMPTS + 1):
        carry_out(ports, world.order("eu-1", attempt=attempt))
        placed = {one.agent_id: one for one in world.store.placements()}
        assert {placed[one].node_id for one in LOST[1:]} == {"eu-2"}
        found = placed[LOST[0]]
        if attempt > failures:
            assert (found.node_id, found.epoch) == ("eu-2", 2)
            assert world.running()[LOST[0]] == "eu-2"
        elif attempt < RESTORE_ATTEMPTS:
            assert (found.node_id, found.desired, found.epoch) == ("eu-1", "running", 1)
        else:
            assert (found.node_id, found.desired) == ("", "parked")
            assert "no vault answers" in found.reason


def test_on_the_way_home_an_unreadable_state_stops_nobody() -> None:
    """The agent runs where it is: parking it would be the first harm that is done to it."""
    world = FailoverWorld()
    world.kill("eu-1", "eu-2")
    world.pass_time(8)
    away = world.order("eu-1", "eu-2", kind=OrderKind.REGION, subject="eu", regions=("us",))
    assert len(carry_out(world.ports(), away).arrival.running) == 8
    world.dead.clear()
    world.pass_time(1)
    state = world.store._states[LOST[0]]
    world.store._states[LOST[0]] = state._replace(body=b"damaged")
    home = away._replace(
        kind=OrderKind.FAIL_BACK, attempt=2, nodes=(), regions=("eu",), heartbeats={}
    )
    carry_out(world.ports(), home)
    placed = {one.agent_id: one for one in world.store.placements()}
    assert (placed[LOST[0]].region, placed[LOST[0]].desired) == ("us", "running")
    assert {placed[one].region for one in LOST[1:]} == {"eu"}


class _DyingAtTheSwitch(CrashingCalls):
    """Kills the run that switches the first placement."""

    WRITES = ("place_agents",)


def test_a_run_that_is_taken_up_again_moves_nobody_off_a_node_that_came_back() -> None:
    """Its plan is written down from before, but the node has its right to act again."""
    world = FailoverWorld()
    world.kill("eu-1", "us-1", terminated=True)
    order = world.order("eu-1", "us-1")
    with pytest.raises(CrashedError):
        carry_out(world.ports(_DyingAtTheSwitch(world.store, 0, after=False)), order)
    planned = {one.source for one in read_plans(world.store.journal(order.incident_id))}
    assert planned == {"eu-1", "us-1"}
    world.dead.discard("eu-1")
    world.terminated.discard("eu-1")
    world.pass_time(1)
    result = carry_out(world.ports(), order)
    assert {one.node_id for one in result.placed} == {"us-2"}
    placed = {one.agent_id: one for one in world.store.placements()}
    assert {(placed[one].node_id, placed[one].epoch) for one in LOST} == {("eu-1", 1)}
    assert world.put(LOST[0], b"written after the return")


def test_what_is_moved_leaves_a_record_even_if_its_controller_could_not_open_it() -> None:
    """The run opens the incident of its order; once, however often it is carried out."""
    world = FailoverWorld()
    world.kill("eu-1", terminated=True)
    order = world.order("eu-1")
    del world.store._incidents[order.incident_id]
    for _ in range(2):
        carry_out(world.ports(), order)
    header = world.store.incident(order.incident_id)
    assert header is not None
    assert (header.kind, header.subject, header.region) == (IncidentKind.NODE, "eu-1", "eu")
    assert (header.state, header.reason) == (IncidentState.ACTING, order.because)
    assert len(world.store.incidents()) == 1


def test_agents_that_do_not_start_are_named() -> None:
    """After the time they had; they stay placed, their node goes on trying."""
    world = FailoverWorld()
    world.kill("eu-1", terminated=True)
    world.holding.add(LOST[2])
    result = carry_out(world.ports(), world.order("eu-1"), ready_timeout_s=3.0)
    assert result.arrival.waiting == (
        f"{LOST[2]}: pending, node eu-1 was lost; dealt to eu-2: agent 7 of w there",
    )


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_dies_at_any_write_is_finished_by_the_next(after: bool) -> None:
    """Each agent is moved once: epoch 2, one row of history, and every step told once."""
    crash_at, done = 0, False
    while not done:
        world = FailoverWorld()
        world.kill("eu-1", terminated=True)
        del world.store._states[LOST[0]]
        order = world.order("eu-1")
        store = CrashingCalls(world.store, crash_at, after=after)
        backup = BackupOf(world, {LOST[0]: (1, b"from the backup")})
        try:
            carry_out(world.ports(store, backup), order)
            done = True
        except CrashedError:
            carry_out(world.ports(rescue=backup), order)
        assert {world.running()[one] for one in LOST} == {"eu-2"}, crash_at
        for agent_id in LOST:
            epochs = [one.epoch for one in world.store.agent_placements(agent_id)]
            assert sorted(epochs) == [1, 2], crash_at
        entries = world.store.journal(order.incident_id)
        assert len({(one.step, one.status) for one in entries}) == len(entries)
        assert [one.agent_id for one in read_plans(entries)] == list(LOST)
        crash_at += 1
    assert crash_at > 10


class _Infrastructure:
    """A fencer of a world: what it is asked to end is dead at once, where it can."""

    def __init__(self, world: FailoverWorld, phase: NodePhase) -> None:
        self._world, self._phase = world, phase
        self.asked: list[dict[str, str]] = []

    def fence(self, boots: Mapping[str, str]) -> list[InfrastructureVerdict]:
        """As told at the start."""
        self.asked.append(dict(boots))
        if self._phase == NodePhase.TERMINATED:
            self._world.kill(*boots)
        return [InfrastructureVerdict(one, self._phase, boots[one], None, "") for one in boots]


def _unanswering(agent_id: str, epoch: int, grace_s: float) -> None:
    raise NodeUnavailableError(f"{agent_id} {epoch} {grace_s}: nobody answers")


def test_a_forced_node_that_cannot_be_asked_is_killed_and_not_waited_for() -> None:
    """It stands still and its lease runs on; the infrastructure ends the boot that reported."""
    world = FailoverWorld()
    order = world.order("eu-1", forced=True)
    fencer = _Infrastructure(world, NodePhase.TERMINATED)
    before_s = world.clock.monotonic_s()
    result = carry_out(world.ports()._replace(evict=_unanswering, fencer=fencer), order)
    assert fencer.asked == [{"eu-1": "boot"}]
    assert result.fencing.how == "1 did not stop when asked and were killed"
    assert result.arrival.running == LOST
    assert world.clock.monotonic_s() - before_s < TTL_S


@pytest.mark.parametrize("phase", [NodePhase.UNKNOWN, NodePhase.RUNNING])
def test_a_node_of_which_something_may_be_left_keeps_its_agents(phase: NodePhase) -> None:
    """It could not be killed for certain and renews its lease: its agents stay."""
    world = FailoverWorld()
    order = world.order("eu-1", forced=True)
    ports = world.ports()._replace(evict=_unanswering, fencer=_Infrastructure(world, phase))
    result = carry_out(ports, order)
    assert (result.fencing.fenced, result.fencing.alive) == ((), ("eu-1",))
    assert {one.node_id for one in world.store.placements() if one.agent_id in LOST} == {"eu-1"}


def test_nobody_is_killed_without_an_order_by_force() -> None:
    """A silent node is waited for; it may come back, and is on probation then."""
    world = FailoverWorld()
    world.kill("eu-1")
    fencer = _Infrastructure(world, NodePhase.TERMINATED)
    result = carry_out(world.ports()._replace(fencer=fencer), world.order("eu-1"))
    assert (fencer.asked, result.fencing.fenced) == ([], ("eu-1",))
