"""What happens to one node: not before its time, and at the latest by its bound."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from fleet.failover.columns import Infrastructure
from fleet.failover.policy import FailoverPolicy, Mode
from fleet.failover.profiles import EMBEDDED, PRODUCTION, bounds
from fleet.failover.records import Action, ActionKind, Directives, NodeState
from fleet.failover.rules import Rule
from tests.fleet.failover.rule_scenarios import (
    flapping,
    gray,
    maintenance,
    return_after_move,
    split_vote,
    stubborn_copies,
    working_but_silent,
)
from tests.fleet.failover.watched_fleet import LEADING, WatchedFleet

NONE: frozenset[Rule] = frozenset()


@pytest.mark.parametrize("policy", [PRODUCTION, EMBEDDED], ids=["production", "embedded"])
def test_a_silent_node_is_suspected_confirmed_fenced_and_moved_in_that_order(
    policy: FailoverPolicy,
) -> None:
    """Within the bounds that the profile states, and with one incident from start to end."""
    fleet = WatchedFleet(policy=policy)
    died_s = fleet.now_s
    fleet["eu-00"].die()
    limits = bounds(policy)
    fleet.run(limits.move_s + 2 * policy.tick_interval_s)
    states = [c.after for _, d in fleet.history for c in d.transitions if c.subject == "node/eu-00"]
    assert states == ["suspect", "confirmed", "fenced", "moved"]
    [(moved_s, move)] = fleet.done(ActionKind.MOVE_NODE)
    assert policy.suspect_min_s + policy.confirm_s < moved_s - died_s <= limits.move_s
    assert moved_s - died_s >= policy.lease_ttl_s + policy.fence_margin_s
    assert (move.nodes, move.agents, move.term) == (("eu-00",), 10, 7)
    [(_, opened)], [(_, ended)] = (
        fleet.done(ActionKind.OPEN_INCIDENT), fleet.done(ActionKind.END_INCIDENT),
    )  # fmt: skip
    assert opened.incident == move.incident == ended.incident


@pytest.mark.parametrize("policy", [PRODUCTION, EMBEDDED], ids=["production", "embedded"])
def test_a_terminated_node_is_moved_in_the_tick_that_sees_it(policy: FailoverPolicy) -> None:
    """Confirmed, fenced and moved at once, although its last heartbeat is a moment old."""
    fleet = WatchedFleet(policy=policy)
    fleet["eu-00"].terminate(fleet.now_s)
    decision = fleet.tick(0.25)
    assert [a.kind for a in decision.actions] == [
        ActionKind.OPEN_INCIDENT,
        ActionKind.MOVE_NODE,
    ]
    assert fleet.state_of("eu-00") is NodeState.FENCED


def test_running_proves_nothing() -> None:
    """A silent node is moved although the infrastructure calls it running."""
    fleet = WatchedFleet()
    fleet["eu-00"].die()
    assert fleet["eu-00"].infrastructure is Infrastructure.RUNNING
    fleet.run(100)
    assert fleet.done(ActionKind.MOVE_NODE)


def test_a_blip_shorter_than_the_limit_leaves_no_trace() -> None:
    """A pause of 25 s is a pause."""
    fleet = WatchedFleet()
    fleet["eu-00"].die()
    fleet.run(25)
    fleet["eu-00"].live()
    fleet.run(30)
    assert all(not d.actions and not d.non_actions for _, d in fleet.history)
    assert fleet.state.nodes == {}


def test_a_return_before_the_fence_moves_nothing_and_ends_the_incident() -> None:
    """Confirmed after 65 s, back before its lease of five minutes has run out."""
    fleet = WatchedFleet()
    fleet["eu-00"].lease_ttl_s = 300.0
    fleet["eu-00"].die()
    fleet.run(150)
    assert fleet.state_of("eu-00") is NodeState.CONFIRMED
    fleet["eu-00"].live()
    fleet.run(30)
    assert fleet.done(ActionKind.MOVE_NODE) == []
    assert fleet.checker.open_incidents() == {}
    assert fleet.state_of("eu-00") is NodeState.HEALTHY


def test_a_confirmed_node_is_asked_to_stop_once() -> None:
    """A zombie that can still hear us may acknowledge; the lease need not run out then."""
    fleet = WatchedFleet()
    fleet["eu-00"].lease_ttl_s = 300.0
    fleet["eu-00"].die()
    fleet.run(100)
    assert len(fleet.done(ActionKind.FENCE_NODE)) == 1
    assert fleet.done(ActionKind.MOVE_NODE) == []
    fleet["eu-00"].stop_acknowledged = True
    fleet.tick()
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 1


def test_fresh_work_makes_a_silent_node_degraded_with_one_alert() -> None:
    """The timer restarts when the contrary evidence ends: no earlier verdict is kept."""
    fleet = working_but_silent(NONE)
    assert fleet.state_of("eu-00") is NodeState.DEGRADED
    assert len(fleet.alerts(Rule.CONTRARY_EVIDENCE)) == 1
    ended_s = fleet.now_s
    fleet["eu-00"].works = False
    fleet.run(100)
    [(moved_s, _)] = fleet.done(ActionKind.MOVE_NODE)
    assert moved_s - ended_s >= PRODUCTION.contrary_fresh_s + PRODUCTION.confirm_s


@pytest.mark.parametrize("sign", ["lease", "work", "votes"])
def test_any_fresh_contrary_evidence_takes_a_verdict_back(sign: str) -> None:
    """Confirmed, not fenced; then one other channel shows life."""
    fleet = WatchedFleet()
    node = fleet["eu-00"]
    node.lease_ttl_s = 300.0
    node.die()
    fleet.run(100)
    if sign == "lease":
        node.renews = True
    elif sign == "work":
        node.works = True
    else:
        node.vote_dead(1, 2)
    fleet.run(300)
    assert fleet.state_of("eu-00") is NodeState.DEGRADED
    assert fleet.done(ActionKind.MOVE_NODE) == []
    assert fleet.checker.open_incidents() == {}


def test_votes_that_go_away_take_the_verdict_with_them() -> None:
    """Confirmed by votes; the observers then know nothing any more."""
    fleet = WatchedFleet()
    fleet["eu-00"].lease_ttl_s = 300.0
    fleet["eu-00"].die()
    fleet.run(100)
    fleet["eu-00"].vote_dead(1, 0)
    fleet.run(400)
    assert fleet.state_of("eu-00") is NodeState.SUSPECT
    assert fleet.done(ActionKind.MOVE_NODE) == []


def test_terminated_but_alive_is_an_alert_and_no_move() -> None:
    """The infrastructure is wrong: the node beats long after its termination."""
    fleet = WatchedFleet()
    fleet["eu-00"].infrastructure = Infrastructure.TERMINATED
    fleet["eu-00"].terminated_s = fleet.now_s - 60
    fleet.run(60)
    assert fleet.state_of("eu-00") is NodeState.DEGRADED
    assert len(fleet.alerts(Rule.CONTRARY_EVIDENCE)) == 1
    assert fleet.done(ActionKind.MOVE_NODE) == []


def test_an_undecided_vote_tells_a_person_once_and_moves_nothing() -> None:
    """Two dead, two alive: three windows later somebody is told."""
    fleet = split_vote(NONE)
    assert len(fleet.alerts(Rule.UNDECIDED)) == 1
    assert fleet.done(ActionKind.MOVE_NODE) == []


def test_a_node_that_returns_serves_probation() -> None:
    """120 s at first; it gets no agents before. Its stale copies it stops by itself."""
    fleet = return_after_move(NONE)
    [began_s] = _changes(fleet, "after", "probation")
    assert _changes(fleet, "before", "probation") == [began_s + PRODUCTION.probation_s]
    assert fleet.alerts(Rule.STALE_EPOCHS) == []


def _changes(fleet: WatchedFleet, side: str, state: str) -> list[float]:
    """When something went into (`after`) or out of (`before`) a state."""
    return [
        at_s
        for at_s, decision in fleet.history
        for change in decision.transitions
        if getattr(change, side) == state
    ]


def test_a_node_that_does_not_stop_stale_copies_stays_on_probation_and_people_are_told_once() -> (
    None
):
    """With how many and for how long; nothing is done to it, and it goes on once they are gone."""
    fleet = stubborn_copies(NONE)
    [alert] = fleet.alerts(Rule.STALE_EPOCHS)
    assert alert.subject == "node/eu-00"
    assert [(one.fact, one.seen) for one in alert.reasons] == [
        ("agents_stale", 10),
        ("back_s", 120),
    ]
    assert fleet.state_of("eu-00") is NodeState.PROBATION
    fleet["eu-00"].stale = 0
    fleet.tick()
    assert fleet.state_of("eu-00") is NodeState.HEALTHY


def test_probation_doubles_with_each_return_within_the_hour() -> None:
    """120, 240, 480 s."""
    policy = replace(PRODUCTION, cool_down_s=0.0, blast_fraction=1.0)
    fleet = WatchedFleet(policy=policy)
    lengths = []
    for _ in range(3):
        fleet["eu-00"].agents = 10
        fleet["eu-00"].terminate(fleet.now_s)
        fleet.run(15)
        fleet["eu-00"].live()
        fleet.run(10)
        lengths.append(fleet.state.nodes["eu-00"].probation_s)
    assert lengths == [120.0, 240.0, 480.0]


def test_three_flaps_in_half_an_hour_are_a_quarantine_that_ends_by_itself_or_by_word() -> None:
    """It is told once; acknowledging ends it at once, a calm half hour does too."""
    fleet = flapping(NONE)
    assert fleet.state_of("eu-00") is NodeState.QUARANTINE
    assert len(fleet.alerts(Rule.FLAPPING)) == 1
    patient = flapping(NONE)
    patient.run(PRODUCTION.quarantine_s - 60)
    assert patient.state_of("eu-00") is NodeState.QUARANTINE
    patient.run(120)
    assert patient.state_of("eu-00") is NodeState.HEALTHY
    fleet.directives = Directives(acknowledged=frozenset({"node/eu-00"}))
    fleet.tick()
    assert fleet.state_of("eu-00") is NodeState.HEALTHY


def test_a_node_in_quarantine_that_dies_is_moved_all_the_same() -> None:
    """Quarantine keeps agents from it, never on it."""
    fleet = flapping(NONE)
    fleet["eu-00"].terminate(fleet.now_s)
    fleet.tick()
    assert fleet.done(ActionKind.MOVE_NODE)


def test_a_gray_node_leaves_discovery_and_comes_back_but_is_never_moved() -> None:
    """It beats; no observer can use it."""
    fleet = gray(NONE)
    assert fleet.state_of("eu-00") is NodeState.GRAY
    assert len(fleet.done(ActionKind.UNREGISTER_NODE)) == 1
    fleet["eu-00"].live()
    fleet.run(20)
    assert len(fleet.done(ActionKind.REGISTER_NODE)) == 1
    assert fleet.done(ActionKind.MOVE_NODE) == []


@pytest.mark.parametrize("comes_back", [False, True], ids=["stays away", "beats again"])
def test_a_node_whose_beats_end_before_anybody_could_act_does_not_leave_discovery_as_gray(
    *, comes_back: bool
) -> None:
    """A verdict from a time without a lease is not acted on later; unusable counts anew."""
    fleet = WatchedFleet(policy=EMBEDDED)
    fleet.store_reachable, fleet.leader = False, LEADING._replace(held=False)
    fleet.run(2, 1.0)
    fleet["eu-00"].die()
    fleet.store_reachable = True
    fleet.run(3, 1.0)  # all ages count from the first of these ticks; its beat is older
    assert fleet.state_of("eu-00") is NodeState.GRAY
    fleet.leader = LEADING
    fleet.tick(1.0)
    assert fleet.state_of("eu-00") is NodeState.GRAY
    assert fleet.alerts(Rule.GRAY) == fleet.done(ActionKind.UNREGISTER_NODE) == []
    fleet["eu-00"].beats = comes_back
    back_s = fleet.now_s + 1.0
    fleet.run(EMBEDDED.confirm_s + 1.0, 1.0)
    left = [at_s for at_s, _ in fleet.done(ActionKind.UNREGISTER_NODE)]
    assert left == ([back_s + EMBEDDED.confirm_s] if comes_back else [])
    assert (fleet.state_of("eu-00") is NodeState.GRAY) is comes_back


def test_maintenance_is_not_watched_and_its_end_restarts_the_ages() -> None:
    """Silent for 200 s in maintenance; afterwards it is waited for in full."""
    fleet = maintenance(NONE)
    assert fleet.state_of("eu-00") is NodeState.MAINTENANCE
    ended_s = fleet.now_s
    fleet["eu-00"].maintenance = False
    fleet.run(120)
    [(moved_s, _)] = fleet.done(ActionKind.MOVE_NODE)
    assert moved_s - ended_s > PRODUCTION.suspect_min_s + PRODUCTION.confirm_s


def test_a_node_that_was_never_started_or_was_stopped_on_request_is_not_suspected() -> None:
    """No heartbeat is expected of it."""
    for word in (Infrastructure.PENDING, Infrastructure.STOPPED):
        fleet = WatchedFleet()
        fleet["eu-00"].die()
        fleet["eu-00"].infrastructure = word
        fleet.run(200)
        assert fleet.state.nodes == {}


def test_a_beating_node_whose_lease_ran_out_is_degraded() -> None:
    """Its agents have stopped themselves: somebody must know."""
    fleet = WatchedFleet()
    fleet["eu-00"].renews = False
    fleet.run(100)
    assert fleet.state_of("eu-00") is NodeState.DEGRADED
    assert "lease has run out" in fleet.alerts(Rule.CONTRARY_EVIDENCE)[0].summary


def test_stateless_agents_go_ahead_of_the_fence_and_the_rest_follow() -> None:
    """Four of ten may run twice; the lease of five minutes holds the other six."""
    fleet = WatchedFleet()
    fleet["eu-00"].lease_ttl_s = 300.0
    fleet["eu-00"].stateless = 4
    fleet["eu-00"].die()
    fleet.run(120)
    [(_, first)] = fleet.done(ActionKind.MOVE_NODE)
    assert (first.stateless_only, first.agents) == (True, 4)
    fleet.run(250)
    [_, (_, second)] = fleet.done(ActionKind.MOVE_NODE)
    assert (second.stateless_only, second.agents) == (False, 6)


def test_a_move_whose_agents_stay_in_place_is_asked_for_again_under_the_same_key() -> None:
    """The job crashed: the same incident, a second attempt, no second price."""
    fleet = WatchedFleet(obeys=False)
    fleet["eu-00"].die()
    fleet.run(200)
    (first_s, first), (second_s, second) = fleet.done(ActionKind.MOVE_NODE)
    assert second_s - first_s == PRODUCTION.move_retry_s
    assert (first.key, first.attempt, second.attempt) == (second.key, 1, 2)
    assert len(fleet.state.moves) == 1


def test_agents_that_are_placed_on_a_dead_node_later_are_moved_again() -> None:
    """A stale plan put them there after the move."""
    fleet = WatchedFleet(policy=replace(PRODUCTION, cool_down_s=0.0))
    fleet["eu-00"].die()
    fleet.run(100)
    fleet["eu-00"].agents = 3
    fleet.run(100)
    assert [move.agents for _, move in fleet.done(ActionKind.MOVE_NODE)] == [10, 3]


def test_an_order_by_force_stops_a_healthy_node_first_and_then_moves_it() -> None:
    """Fencing holds for people, too."""
    fleet = WatchedFleet()
    fleet.directives = Directives(forced=frozenset({"node/eu-00"}))
    fleet.run(30)
    assert len(fleet.done(ActionKind.FENCE_NODE)) == 1
    assert fleet.done(ActionKind.MOVE_NODE) == []
    fleet["eu-00"].stop_acknowledged = True
    fleet.tick()
    [(_, move)] = fleet.done(ActionKind.MOVE_NODE)
    assert move.rule is Rule.FORCED


def test_a_forced_fence_without_effect_is_asked_for_again_at_intervals_with_the_reason() -> None:
    """Each request has a number of its own, so each is a run; none comes early, none after it."""
    fleet = WatchedFleet()
    fleet.directives = Directives(forced=frozenset({"node/eu-00"}))
    fleet.run(4 * PRODUCTION.move_retry_s)
    asked = fleet.done(ActionKind.FENCE_NODE)
    assert [action.attempt for _, action in asked] == [1, 2, 3, 4]
    assert len({action.key for _, action in asked}) == 1
    times = [at_s for at_s, _ in asked]
    assert all(later - at_s >= PRODUCTION.move_retry_s for at_s, later in pairwise(times))
    again = asked[1][1].reasons[0]
    assert (again.fact, again.limit) == ("fence_asked_s_ago", PRODUCTION.move_retry_s)
    fleet["eu-00"].stop_acknowledged = True
    fleet.run(4 * PRODUCTION.move_retry_s)
    assert len(fleet.done(ActionKind.FENCE_NODE)) == 4
    [(_, move)] = fleet.done(ActionKind.MOVE_NODE)
    assert move.attempt == 5  # a run of its own, not the fence's


def test_a_fence_that_nobody_ordered_is_told_once() -> None:
    """Its lease runs out by itself."""
    fleet = WatchedFleet()
    fleet["eu-00"].lease_ttl_s = 2000.0
    fleet["eu-00"].die()
    fleet.run(1000)
    [(_, action)] = fleet.done(ActionKind.FENCE_NODE)
    assert action.attempt == 1


def test_agents_moved_by_a_forced_fence_count_for_the_blast_radius() -> None:
    """The run that stops them moves them, too; the next loss waits for the window."""
    fleet = WatchedFleet(policy=replace(PRODUCTION, blast_fraction=0.1))
    fleet.directives = Directives(forced=frozenset({"node/eu-00"}))
    fleet.tick()
    fleet["eu-00"].agents = 0
    fleet["eu-00"].stop_acknowledged = True
    fleet["us-00"].terminate(fleet.now_s)
    fleet.run(60)
    assert fleet.done(ActionKind.MOVE_NODE) == []
    assert fleet.refused(Rule.BLAST_RADIUS)


@pytest.mark.parametrize("stateless", [0, 4])
def test_in_mode_approve_one_word_is_enough_for_a_whole_failover(stateless: int) -> None:
    """Whichever step waited first; fence, stateless agents and move are one failover."""
    fleet = WatchedFleet(policy=replace(PRODUCTION, node_mode=Mode.APPROVE))
    fleet["eu-00"].stateless = stateless
    fleet["eu-00"].lease_ttl_s = 300.0
    fleet["eu-00"].die()
    fleet.run(150)
    steps = (ActionKind.FENCE_NODE, ActionKind.MOVE_NODE)
    assert not any(fleet.done(kind) for kind in steps)
    keys = {one.action.key for one in fleet.refused(Rule.MODE)}
    [key] = keys
    fleet.directives = Directives(approved=frozenset({key}))
    refused = len(fleet.refused(Rule.MODE))
    fleet.run(400)
    assert len(fleet.refused(Rule.MODE)) == refused
    moves = [action for _, action in fleet.done(ActionKind.MOVE_NODE)]
    assert [move.stateless_only for move in moves] == ([True, False] if stateless else [False])
    assert sum(move.agents for move in moves) == 10
    assert len(fleet.done(ActionKind.FENCE_NODE)) == 1


def test_a_word_for_one_incident_allows_nothing_in_another() -> None:
    """The same node dies again: it is asked for again."""
    action = Action(ActionKind.MOVE_NODE, "node/a", Rule.VOTE_MAJORITY, (), incident="node-a-1")
    fence = action._replace(kind=ActionKind.FENCE_NODE)
    assert action.approval_keys == fence.approval_keys
    for other in (action._replace(incident="node-a-2"), action._replace(subject="node/b")):
        assert action.approval_keys.isdisjoint(other.approval_keys)
    evacuation = action._replace(kind=ActionKind.EVACUATE_REGION)
    assert evacuation.approval_keys == {evacuation.key}


def test_a_lost_node_without_agents_is_told_and_opens_no_incident() -> None:
    """There is nothing to move."""
    fleet = WatchedFleet()
    fleet["eu-00"].agents = 0
    fleet["eu-00"].terminate(fleet.now_s)
    fleet.run(30)
    assert fleet.state_of("eu-00") is NodeState.MOVED
    assert len(fleet.alerts(Rule.TERMINATED)) == 1
    assert fleet.done(ActionKind.OPEN_INCIDENT) == []


def test_an_incident_stays_open_until_the_last_agent_runs_or_is_parked() -> None:
    """The placements are moved at once; two agents take longer."""
    fleet = WatchedFleet()
    fleet["eu-00"].terminate(fleet.now_s)
    fleet.tick()
    [incident] = fleet.incidents
    fleet.pending[incident] = 2
    fleet.run(60)
    assert incident in fleet.incidents
    fleet.pending[incident] = 0
    fleet.tick()
    assert fleet.incidents == {}


def test_a_node_that_is_undeclared_in_the_middle_ends_its_incident() -> None:
    """No incident without an end."""
    fleet = WatchedFleet()
    fleet["eu-00"].lease_ttl_s = 300.0
    fleet["eu-00"].die()
    fleet.run(100)
    del fleet.nodes["eu-00"]
    fleet.run(10)
    assert fleet.checker.open_incidents() == {}
    assert "not declared" in fleet.done(ActionKind.END_INCIDENT)[0][1].summary


def _whole_but_silent(fleet: WatchedFleet, name: str) -> None:
    """It answers probes again, and its heartbeats do not arrive yet."""
    fleet[name].live()
    fleet[name].beats = fleet[name].renews = False


@pytest.mark.parametrize("how", ["die", "terminate"])
def test_a_node_that_was_lost_without_agents_is_on_probation_when_it_comes_back(how: str) -> None:
    """Also where a probe shows its return first: whoever comes and goes gets no agents at once."""
    fleet = WatchedFleet()
    fleet["eu-00"].agents = 0
    fleet["eu-00"].die() if how == "die" else fleet["eu-00"].terminate(fleet.now_s)
    fleet.run(100)
    assert fleet.state_of("eu-00") is NodeState.MOVED
    _whole_but_silent(fleet, "eu-00")
    fleet.run(20)
    assert fleet.state_of("eu-00") is NodeState.DEGRADED
    fleet["eu-00"].live()
    fleet.run(20)
    assert fleet.state_of("eu-00") is NodeState.PROBATION


def test_a_probation_is_served_though_a_channel_is_lost_in_between() -> None:
    """A node that came back a minute ago and is degraded now has not become whole by that."""
    fleet = return_after_move(NONE)
    fleet["eu-00"].die()
    fleet.run(100)
    fleet["eu-00"].live()
    fleet.run(30)
    assert fleet.state_of("eu-00") is NodeState.PROBATION
    fleet["eu-00"].beats = False
    fleet.run(60)
    assert fleet.state_of("eu-00") is NodeState.DEGRADED
    fleet["eu-00"].live()
    fleet.run(30)
    assert fleet.state_of("eu-00") is NodeState.PROBATION
    fleet["eu-00"].beats = fleet["eu-00"].renews = False
    fleet.run(90)
    fleet["eu-00"].agents = 1  # somebody placed it there by hand; it has stopped with the lease
    fleet["eu-00"].beats = True
    fleet["eu-00"].vote_dead()
    fleet.run(60)
    assert fleet.state_of("eu-00") is NodeState.GRAY
    fleet["eu-00"].live()
    fleet.run(30)
    assert fleet.state_of("eu-00") is NodeState.PROBATION
    fleet.run(600)
    assert fleet.state_of("eu-00") is NodeState.HEALTHY


def test_a_termination_that_is_not_said_any_more_is_a_suspicion_and_no_sign_of_life() -> None:
    """The infrastructure falls silent before the move: votes must confirm, and nothing flaps."""
    fleet = WatchedFleet(policy=replace(PRODUCTION, node_mode=Mode.APPROVE))
    fleet["eu-00"].terminate(fleet.now_s)
    fleet.run(60)
    assert fleet.state_of("eu-00") is NodeState.FENCED
    fleet["eu-00"].infrastructure = Infrastructure.UNKNOWN
    fleet.tick()
    assert fleet.state_of("eu-00") is NodeState.SUSPECT
    assert fleet.state.nodes["eu-00"].flaps_s == ()
    assert fleet.alerts(Rule.CONTRARY_EVIDENCE) == []
