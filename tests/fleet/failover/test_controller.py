"""When the controller doubts itself, who acts, and what limits what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fleet.decided_moves import DecidedMove, move_key
from fleet.errors import InvalidInputError
from fleet.failover.decide import decide
from fleet.failover.policy import Mode, RegionMode
from fleet.failover.profiles import PRODUCTION
from fleet.failover.records import (
    DESTRUCTIVE,
    ActionKind,
    AgentCrashes,
    ControllerState,
    Directives,
    FailoverState,
    LeaderFacts,
    NodeState,
)
from fleet.failover.rules import Rule
from tests.fleet.failover.rule_scenarios import (
    AUTO,
    blast,
    blind_probes,
    crash_loop,
    everybody_silent,
    many_at_once,
    own_pause,
    thaw,
    two_controllers,
)
from tests.fleet.failover.watched_fleet import LEADING, WatchedFleet

NONE: frozenset[Rule] = frozenset()


@pytest.mark.parametrize(
    ("rule", "break_it"),
    [
        (Rule.STORE_REACHABLE, lambda fleet: setattr(fleet, "store_reachable", False)),
        (Rule.OBSERVER_MAJORITY, lambda fleet: setattr(fleet, "observers_reporting", 4)),
    ],
)
def test_a_controller_that_cannot_see_freezes_and_tells_it_once(
    rule: Rule, break_it: Callable[[WatchedFleet], None]
) -> None:
    """Nothing is done, and every node that waits is named with the rule."""
    fleet = WatchedFleet(policy=replace(PRODUCTION, node_mode=Mode.APPROVE))
    fleet["eu-00"].die()
    fleet.run(70)
    break_it(fleet)
    start = len(fleet.history)
    fleet.run(200)
    frozen = [decision for _, decision in fleet.history[start:]]
    assert all(decision.controller is ControllerState.FROZEN for decision in frozen)
    assert all(decision.frozen_by == (rule,) for decision in frozen)
    kinds = {action.kind for decision in frozen for action in decision.actions}
    assert kinds == {ActionKind.ALERT}
    assert len(fleet.alerts(rule)) == 1
    assert {missed.action.subject for missed in fleet.refused(rule)} == {"node/eu-00"}


def test_on_leaving_a_freeze_all_ages_restart() -> None:
    """A node that was silent throughout is suspected and confirmed anew, in full."""
    fleet = thaw(NONE)
    thawed_s = next(
        at_s for at_s, d in fleet.history if d.ages_restarted and at_s > fleet.history[0][0]
    )
    fleet.run(100)
    [(moved_s, _)] = fleet.done(ActionKind.MOVE_NODE)
    assert moved_s - thawed_s > PRODUCTION.suspect_min_s + PRODUCTION.confirm_s


def test_a_pause_of_our_own_freezes_one_tick_and_restarts_all_ages() -> None:
    """We slept ten minutes: everybody else seems to have."""
    fleet = own_pause(NONE)
    assert len(fleet.alerts(Rule.TICK_GAP)) == 1
    assert fleet.history[-1][1].controller is ControllerState.ACTIVE
    assert fleet.done(ActionKind.MOVE_NODE) == []


def test_eleven_of_twelve_silent_nodes_are_our_own_deafness() -> None:
    """Frozen, nothing moved."""
    fleet = everybody_silent(NONE)
    assert fleet.history[-1][1].controller is ControllerState.FROZEN
    assert fleet.done(ActionKind.MOVE_NODE) == fleet.done(ActionKind.EVACUATE_REGION) == []


def test_nodes_that_a_person_has_emptied_and_that_beat_are_alive() -> None:
    """All but one are ordered away and one dies: frozen, nobody would see them come back."""
    fleet = WatchedFleet(policy=AUTO, nodes_per_region=1)
    fleet.directives = Directives(forced=frozenset({"node/ap-00", "node/us-00"}))
    for name in ("ap-00", "us-00"):
        fleet[name].stop_acknowledged, fleet[name].agents = True, 0
    fleet.run(20)
    assert {fleet.state_of(name) for name in ("ap-00", "us-00")} == {NodeState.MOVED}
    fleet["eu-00"].terminate(fleet.now_s)
    fleet.tick()
    assert fleet.history[-1][1].controller is ControllerState.ACTIVE


def test_a_probe_network_that_fails_empties_no_discovery() -> None:
    """Every observer calls every node dead, while all beat."""
    fleet = blind_probes(NONE)
    assert fleet.history[-1][1].frozen_by == (Rule.CHANNEL_FAULT,)
    assert fleet.done(ActionKind.UNREGISTER_NODE) == []


def test_a_channel_that_fails_now_here_now_there_keeps_the_controller_frozen() -> None:
    """While it is frozen nothing is remembered of a node: whoever is unusable now counts."""
    fleet = WatchedFleet()
    nodes = list(fleet.nodes.values())
    for node in nodes[:6]:
        node.vote_dead()
    fleet.run(60)
    assert fleet.history[-1][1].frozen_by == (Rule.CHANNEL_FAULT,)
    for node in nodes[:6]:
        node.vote_dead(0, 3, 0, 0)
    for node in nodes[6:]:
        node.vote_dead()
    assert {decision.frozen_by for decision in fleet.run(60)} == {(Rule.CHANNEL_FAULT,)}
    for node in nodes[6:]:
        node.vote_dead(0, 3, 0, 0)
    fleet.tick()
    assert fleet.history[-1][1].controller is ControllerState.ACTIVE


def test_half_a_fleet_that_dies_is_no_fault_of_a_channel() -> None:
    """Two regions, one is lost: its nodes are dead by votes while their last beats are young."""
    for how in ("die", "terminate"):
        fleet = WatchedFleet(policy=AUTO, regions=("eu", "us"))
        for node in fleet.region("eu"):
            node.die() if how == "die" else node.terminate(fleet.now_s)
        fleet.run(200)
        assert not fleet.alerts(Rule.CHANNEL_FAULT)
        assert len(fleet.done(ActionKind.EVACUATE_REGION)) == 1


def test_dead_heartbeat_ingest_is_a_fault_of_the_channel() -> None:
    """No heartbeat of anybody arrives, but leases are renewed."""
    fleet = WatchedFleet()
    for node in fleet.nodes.values():
        node.beats = False
    fleet.run(120)
    assert Rule.CHANNEL_FAULT in fleet.history[-1][1].frozen_by
    assert not any(action.kind in DESTRUCTIVE for _, d in fleet.history for action in d.actions)


@pytest.mark.parametrize(
    "leader",
    [
        LEADING._replace(held=False, holder="other"),
        LEADING._replace(renewed=False),
        LEADING._replace(left_s=2.0),
    ],
    ids=["another leads", "not renewed in this tick", "too little left"],
)
def test_without_a_sound_lease_it_watches_only(leader: LeaderFacts) -> None:
    """What it would do is named as not done."""
    fleet = WatchedFleet(leader=leader)
    fleet["eu-00"].die()
    fleet.run(120)
    assert all(not decision.actions for _, decision in fleet.history)
    assert {missed.action.subject for missed in fleet.refused(Rule.LEADER_LEASE)} == {"node/eu-00"}


def test_a_standby_that_takes_over_continues_with_its_own_ages() -> None:
    """It has watched all along: it acts in its first tick as the leader, and tells what was due."""
    fleet = two_controllers(NONE)
    fleet.leader = LEADING
    decision = fleet.tick()
    assert [action.kind for action in decision.actions] == [
        ActionKind.OPEN_INCIDENT,
        ActionKind.MOVE_NODE,
    ]


def test_a_leader_that_takes_over_continues_the_open_incident() -> None:
    """The store knows the incident; its id, not a new one, goes into the move."""
    fleet = two_controllers(NONE)
    fleet.incidents["inc-1"] = "node/eu-00"
    fleet.leader = LEADING
    decision = fleet.tick()
    assert [(action.kind, action.incident) for action in decision.actions] == [
        (ActionKind.MOVE_NODE, "inc-1")
    ]


def test_an_incident_that_nobody_remembers_is_ended() -> None:
    """The controller lost its memory; the node is healthy by now."""
    fleet = WatchedFleet()
    fleet.incidents["inc-1"] = "node/eu-00"
    fleet.incidents["inc-2"] = "region/us"
    fleet.run(10)
    assert fleet.incidents == {}


def test_a_new_process_waits_in_full_whatever_it_remembers() -> None:
    """The same memory under another clock: no verdict, no age is carried over; cool-downs are."""
    fleet = WatchedFleet()
    fleet["eu-00"].lease_ttl_s = 300.0
    fleet["eu-00"].die()
    fleet.run(100)
    assert fleet.state_of("eu-00") is NodeState.CONFIRMED
    fleet.clock_id, fleet.now_s = "boot-2", 50.0
    for node in fleet.nodes.values():
        node.beat_s = node.renewed_s = float("-inf")
    fleet.tick()
    assert fleet.state_of("eu-00") is NodeState.SUSPECT
    fleet.run(PRODUCTION.suspect_min_s + PRODUCTION.confirm_s - 10)
    assert fleet.state_of("eu-00") is NodeState.SUSPECT
    fleet.run(30)
    assert fleet.state_of("eu-00") is NodeState.CONFIRMED


def test_at_most_a_quarter_of_the_agents_is_moved_in_ten_minutes() -> None:
    """Three nodes go (25 %); the fourth waits for the window, or for a person."""
    fleet = blast(NONE)
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 3
    missed = fleet.refused(Rule.BLAST_RADIUS)[-1]
    assert missed.approvable
    assert missed.wait_s is not None
    fleet.run(missed.wait_s + 5)
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 4


def _taken_over(*moves: DecidedMove) -> WatchedFleet:
    """A standby that has seen one node die takes over from a leader that has moved these."""
    fleet = WatchedFleet(policy=replace(PRODUCTION, rate_nodes_min=9))
    fleet.leader = LEADING._replace(held=False, holder="c1")
    fleet["eu-00"].die()
    fleet.run(120)
    fleet.leader, fleet.earlier_moves = LEADING._replace(term=8), moves
    fleet.tick()
    fleet.earlier_moves = ()
    return fleet


def _moved(name: str, agents: int | None, age_s: float, incident: str = "inc") -> DecidedMove:
    subject = f"node/{name}"
    return DecidedMove(move_key(subject, incident, early=False), subject, "eu", agents, age_s)


def test_what_an_earlier_leader_has_moved_counts_against_the_blast_radius() -> None:
    """25 of 30 allowed agents within the window: ten more must wait for it to pass."""
    fleet = _taken_over(_moved("us-00", 15, 400.0), _moved("us-01", 10, 100.0))
    assert fleet.done(ActionKind.MOVE_NODE) == []
    [missed] = fleet.refused(Rule.BLAST_RADIUS)
    assert [one.seen for one in missed.reasons] == [35, 600.0]
    assert missed.wait_s == pytest.approx(200.0)
    fleet.run(205)
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 1


def test_an_earlier_move_of_unknown_size_closes_the_budget_until_it_has_left_the_window() -> None:
    """An older version's: rather too much than forgotten."""
    fleet = _taken_over(_moved("us-00", None, 500.0))
    assert fleet.done(ActionKind.MOVE_NODE) == []
    fleet.run(105)
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 1


def test_a_move_that_an_earlier_leader_has_begun_goes_on_and_counts_once() -> None:
    """The same node in the same incident does not count against itself: 20 and 10 of 30."""
    begun = _moved("eu-00", 10, 50.0, incident="inc-1")
    fleet = WatchedFleet(policy=replace(PRODUCTION, rate_nodes_min=9), obeys=False)
    fleet.leader = LEADING._replace(held=False, holder="c1")
    fleet.incidents["inc-1"] = "node/eu-00"
    fleet["eu-00"].die()
    fleet.run(120)
    fleet.leader, fleet.earlier_moves = LEADING._replace(term=8), (begun, _moved("us-00", 20, 30.0))
    fleet.tick()
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 1
    assert sorted(note.agents for note in fleet.state.moves) == [10, 20]


def test_what_we_remember_ourselves_is_not_counted_twice_and_not_forgotten() -> None:
    """The same leader under a new term: the store tells of one of its two moves."""
    fleet = WatchedFleet(policy=replace(PRODUCTION, rate_nodes_min=9))
    for name in ("eu-00", "us-00"):
        fleet[name].die()
    fleet.run(120)
    notes = fleet.state.moves
    assert len(notes) == 2
    told = DecidedMove(notes[0].key, notes[0].subject, "eu", 10, fleet.now_s + 5 - notes[0].at_s)
    fleet.leader, fleet.earlier_moves = LEADING._replace(term=9), (told,)
    fleet.tick()
    assert sorted(fleet.state.moves) == sorted(notes)
    assert fleet.state.moves_term == 9


def test_a_node_that_an_earlier_leader_moved_cools_down_under_the_next() -> None:
    """Moved 100 s before the change in an incident that has ended: its next move waits out 300."""
    fleet = WatchedFleet(policy=replace(PRODUCTION, rate_nodes_min=9))
    fleet.leader, fleet.earlier_moves = LEADING._replace(term=8), (_moved("eu-00", 10, 100.0),)
    fleet.tick()
    fleet.earlier_moves = ()
    fleet["eu-00"].die()
    fleet.run(150)
    assert fleet.done(ActionKind.MOVE_NODE) == []
    assert fleet.refused(Rule.COOL_DOWN)[-1].wait_s == pytest.approx(45.0, abs=6.0)
    fleet.run(60)
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 1


def test_a_region_that_an_earlier_leader_evacuated_counts_as_evacuated() -> None:
    """The next leader may propose its way home, and asks a person before it gives up another."""
    auto = replace(PRODUCTION, region_mode=RegionMode.AUTO, blast_fraction=1.0)
    fleet = WatchedFleet(policy=auto)
    fleet.abroad, fleet.earlier_evacuations = {"eu": 30}, {"eu": "inc-9"}
    fleet.leader = LEADING._replace(term=8)
    fleet.tick()
    fleet.earlier_evacuations = {}
    for node in fleet.region("us"):
        node.die()
    fleet.run(400)
    assert fleet.done(ActionKind.EVACUATE_REGION) == []
    assert [one.seen for one in fleet.refused(Rule.SECOND_REGION)[-1].reasons] == ["eu"]
    for node in fleet.region("us"):
        node.live()
    fleet.run(auto.fail_back_calm_s + 300)
    homeward = [one.action for one in fleet.refused(Rule.FAIL_BACK_REHEARSAL)]
    assert (homeward[-1].subject, homeward[-1].incident) == ("region/eu", "inc-9")


def test_who_leads_and_cannot_read_what_was_moved_changes_nothing() -> None:
    """It freezes with that reason, and goes on, with its ages from then, when it can."""
    fleet = WatchedFleet()
    fleet["eu-00"].die()
    fleet.run(60)
    fleet.leader, fleet.earlier_moves = LEADING._replace(term=8), None
    fleet.run(60)
    assert fleet.state.frozen_by == (Rule.EARLIER_MOVES.value,)
    assert fleet.done(ActionKind.MOVE_NODE) == []
    fleet.earlier_moves = ()
    fleet.run(120)
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 1


def test_the_blast_radius_is_lifted_by_a_person_at_once() -> None:
    """By the key of the refused move."""
    fleet = blast(NONE)
    key = fleet.refused(Rule.BLAST_RADIUS)[-1].action.key
    fleet.directives = Directives(approved=frozenset({key}))
    fleet.tick()
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 4


def test_the_first_move_of_a_window_is_free_whatever_its_size() -> None:
    """A node with nine tenths of all agents."""
    fleet = WatchedFleet()
    fleet["eu-00"].agents = 1000
    fleet["eu-00"].terminate(fleet.now_s)
    fleet.tick()
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 1


def test_one_node_in_ten_seconds_in_a_small_fleet() -> None:
    """Two died at once; the second waits."""
    fleet = many_at_once(NONE)
    (first_s, _), (second_s, _) = fleet.done(ActionKind.MOVE_NODE)
    assert second_s - first_s == PRODUCTION.rate_window_s


def test_a_large_fleet_moves_half_a_percent_of_its_nodes_in_ten_seconds() -> None:
    """600 nodes: three at a time."""
    fleet = WatchedFleet(nodes_per_region=200)
    for number in range(8):
        fleet[f"eu-{number:02}"].terminate(fleet.now_s)
    fleet.tick()
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 3


def test_the_same_node_is_not_moved_twice_within_its_cool_down() -> None:
    """Unless a person acknowledges it."""
    fleet = WatchedFleet(policy=replace(PRODUCTION, probation_s=10.0))
    fleet["eu-00"].terminate(fleet.now_s)
    fleet.run(20)
    fleet["eu-00"].live()
    fleet.run(60)
    fleet["eu-00"].agents = 5
    fleet["eu-00"].terminate(fleet.now_s)
    fleet.run(20)
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 1
    assert fleet.refused(Rule.COOL_DOWN)[-1].wait_s is not None
    fleet.directives = Directives(acknowledged=frozenset({"node/eu-00"}))
    fleet.tick()
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 2


def test_paused_means_nothing_but_what_is_ordered_by_force() -> None:
    """The pause names who and why."""
    fleet = WatchedFleet()
    fleet.directives = Directives(paused="ada: migration")
    fleet["eu-00"].die()
    fleet["us-00"].die()
    fleet.run(100)
    assert fleet.done(ActionKind.MOVE_NODE) == []
    assert fleet.refused(Rule.PAUSED)[-1].reasons[0].seen == "ada: migration"
    fleet.directives = fleet.directives._replace(forced=frozenset({"node/us-00"}))
    fleet.tick()
    assert [move.subject for _, move in fleet.done(ActionKind.MOVE_NODE)] == ["node/us-00"]


def test_approve_waits_for_the_key_of_the_move() -> None:
    """Per region: `eu` asks, the others do not."""
    fleet = WatchedFleet(policy=replace(PRODUCTION, node_modes={"eu": Mode.APPROVE}))
    fleet["eu-00"].terminate(fleet.now_s)
    fleet["us-00"].terminate(fleet.now_s)
    fleet.run(10)
    assert [move.subject for _, move in fleet.done(ActionKind.MOVE_NODE)] == ["node/us-00"]
    key = fleet.refused(Rule.MODE)[-1].action.key
    fleet.directives = Directives(approved=frozenset({key}))
    fleet.run(10)
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 2


def test_a_crash_loop_is_parked_once_and_never_on_a_node_that_is_in_doubt() -> None:
    """Three restarts in the window; a suspect node's crashes are the node's."""
    fleet = crash_loop(NONE)
    assert [action.subject for _, action in fleet.done(ActionKind.PARK_AGENT)] == ["agent/cpu-1"]
    doubtful = WatchedFleet()
    doubtful["eu-00"].die()
    doubtful.run(40)
    doubtful.crashes = (AgentCrashes("cpu-1", "eu-00", 4, 9),)
    doubtful.tick()
    assert doubtful.done(ActionKind.PARK_AGENT) == []


def test_a_healthy_fleet_asks_for_nothing_and_remembers_nothing() -> None:
    """The baseline."""
    fleet = WatchedFleet()
    fleet.run(300)
    assert all(not d.actions and not d.non_actions for _, d in fleet.history)
    assert (fleet.state.nodes, fleet.state.regions, fleet.state.moves) == ({}, {}, ())


def test_the_same_arguments_give_the_same_decision() -> None:
    """Nothing is ambient."""
    fleet = blast(NONE)
    evidence = fleet.evidence()
    first = decide(evidence, fleet.state, PRODUCTION, fleet.now_s + 1)
    assert decide(evidence, fleet.state, PRODUCTION, fleet.now_s + 1) == first


def test_a_naive_wall_clock_is_refused() -> None:
    """It names incidents and is compared with business hours."""
    fleet = WatchedFleet()
    evidence = replace(fleet.evidence(), at=fleet.evidence().at.replace(tzinfo=None))
    with pytest.raises(InvalidInputError, match="aware"):
        decide(evidence, FailoverState(), PRODUCTION, 1.0)
