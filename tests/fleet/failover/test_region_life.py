"""What happens to a whole region, and how its agents go home."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from fleet.failover.policy import FailBackMode, FailoverPolicy, RegionMode
from fleet.failover.profiles import EMBEDDED, PRODUCTION, bounds
from fleet.failover.records import ActionKind, Directives, RegionState
from fleet.failover.rules import Rule
from tests.fleet.failover.rule_scenarios import AUTO, BACK, second_region
from tests.fleet.failover.watched_fleet import WatchedFleet

NONE: frozenset[Rule] = frozenset()


def _kill(fleet: WatchedFleet, region: str) -> float:
    for node in fleet.region(region):
        node.die()
    return fleet.now_s


@pytest.mark.parametrize("policy", [AUTO, EMBEDDED], ids=["production", "embedded"])
def test_a_silent_region_is_evacuated_as_a_whole_after_its_verdict(policy: FailoverPolicy) -> None:
    """One incident, one evacuation, no single move; within the stated bound."""
    fleet = WatchedFleet(policy=policy)
    died_s = _kill(fleet, "eu")
    limits = bounds(policy)
    fleet.run(limits.region_s + 3 * policy.tick_interval_s)
    [(at_s, action)] = fleet.done(ActionKind.EVACUATE_REGION)
    assert policy.suspect_min_s + policy.region_verdict_s <= at_s - died_s <= limits.region_s
    assert action.nodes == ("eu-00", "eu-01", "eu-02", "eu-03")
    assert action.agents == 40
    assert fleet.done(ActionKind.MOVE_NODE) == []
    assert (
        len(fleet.done(ActionKind.OPEN_INCIDENT)) == len(fleet.done(ActionKind.END_INCIDENT)) == 1
    )


@pytest.mark.parametrize("policy", [AUTO, EMBEDDED], ids=["production", "embedded"])
def test_a_region_that_is_terminated_at_once_waits_for_the_verdict_only(
    policy: FailoverPolicy,
) -> None:
    """Every process killed in one moment: the region machinery acts, not single moves."""
    fleet = WatchedFleet(policy=policy)
    for node in fleet.region("eu"):
        node.terminate(fleet.now_s)
    killed_s = fleet.now_s
    fleet.run(bounds(policy).region_terminated_s + policy.tick_interval_s, step_s=0.5)
    [(at_s, _)] = fleet.done(ActionKind.EVACUATE_REGION)
    assert policy.region_verdict_s <= at_s - killed_s <= bounds(policy).region_terminated_s
    assert fleet.done(ActionKind.MOVE_NODE) == []


def test_off_never_evacuates_and_says_so() -> None:
    """Nor are its nodes moved singly; the refusal cannot be approved."""
    fleet = WatchedFleet(policy=replace(PRODUCTION, region_mode=RegionMode.OFF))
    _kill(fleet, "eu")
    fleet.run(600)
    assert fleet.done(ActionKind.EVACUATE_REGION) == fleet.done(ActionKind.MOVE_NODE) == []
    refused = fleet.refused(Rule.REGION_MODE)
    assert refused
    assert not any(missed.approvable for missed in refused)


def test_approve_waits_for_the_word_and_then_acts_in_one_tick() -> None:
    """The refusal names the key that the person approves."""
    fleet = WatchedFleet()
    _kill(fleet, "eu")
    fleet.run(300)
    assert fleet.done(ActionKind.EVACUATE_REGION) == []
    missed = fleet.refused(Rule.REGION_MODE)[-1]
    assert missed.approvable
    fleet.directives = Directives(approved=frozenset({missed.action.key}))
    fleet.tick()
    assert len(fleet.done(ActionKind.EVACUATE_REGION)) == 1


def test_a_partition_that_heals_before_the_verdict_moves_nothing() -> None:
    """All of a region silent for 100 s, then back."""
    fleet = WatchedFleet(policy=AUTO)
    _kill(fleet, "eu")
    fleet.run(100)
    for node in fleet.region("eu"):
        node.live()
    fleet.run(60)
    assert fleet.done(ActionKind.EVACUATE_REGION) == fleet.done(ActionKind.MOVE_NODE) == []
    assert fleet.checker.open_incidents() == {}
    assert fleet.state.regions == {}


def test_a_region_without_a_majority_of_confirmed_deaths_is_not_given_up() -> None:
    """All silent, half of them without votes: the verdict names what is missing."""
    fleet = WatchedFleet(policy=AUTO)
    _kill(fleet, "eu")
    for node in fleet.region("eu")[:2]:
        node.vote_dead(0, 0, 0, 0)
    fleet.run(400)
    assert fleet.done(ActionKind.EVACUATE_REGION) == []
    assert fleet.refused(Rule.REGION_VERDICT)[-1].wait_s is None


def test_a_node_that_is_confirmed_later_joins_the_evacuation() -> None:
    """Three of four at first; the fourth in a second wave of the same incident."""
    fleet = WatchedFleet(policy=AUTO)
    _kill(fleet, "eu")
    fleet["eu-03"].vote_dead(0, 0, 0, 0)
    fleet.run(250)
    fleet["eu-03"].vote_dead()
    fleet.run(60)
    (_, first), (_, second) = fleet.done(ActionKind.EVACUATE_REGION)
    assert (first.nodes, second.nodes) == (("eu-00", "eu-01", "eu-02"), ("eu-03",))
    assert (first.attempt, second.attempt) == (1, 2)


def test_half_a_region_is_moved_node_by_node() -> None:
    """Two of four are lost: below 55 %, no region matter."""
    fleet = WatchedFleet(policy=replace(AUTO, blast_fraction=1.0))
    for node in fleet.region("eu")[:2]:
        node.die()
    fleet.run(150)
    assert len(fleet.done(ActionKind.MOVE_NODE)) == 2


def test_three_of_four_nodes_ask_a_person_for_each_move() -> None:
    """A small region that is going: PARTIAL."""
    fleet = WatchedFleet(policy=AUTO)
    for node in fleet.region("eu")[:3]:
        node.die()
    fleet.run(150)
    assert fleet.state.regions["eu"].state is RegionState.PARTIAL
    assert fleet.done(ActionKind.MOVE_NODE) == []
    key = fleet.refused(Rule.REGION_PARTIAL)[0].action.key
    fleet.directives = Directives(approved=frozenset({key}))
    fleet.run(30)
    assert [move.key for _, move in fleet.done(ActionKind.MOVE_NODE)] == [key]


def test_a_large_partial_region_is_moved_ten_times_slower() -> None:
    """60 nodes, 36 lost: at most one node per 100 s instead of one per 10 s."""
    fleet = WatchedFleet(policy=replace(AUTO, blast_fraction=1.0), nodes_per_region=60)
    for node in fleet.region("eu")[:36]:
        node.terminate(fleet.now_s)
    fleet.run(400)
    times = [at_s for at_s, _ in fleet.done(ActionKind.MOVE_NODE)]
    assert len(times) == 4
    assert min(b - a for a, b in pairwise(times)) >= 100


def test_a_second_region_waits_for_a_person() -> None:
    """The first is evacuated; the second only when somebody approves."""
    fleet = second_region(NONE)
    assert len(fleet.done(ActionKind.EVACUATE_REGION)) == 1
    key = fleet.refused(Rule.SECOND_REGION)[-1].action.key
    fleet.directives = Directives(approved=frozenset({key}))
    fleet.tick()
    assert len(fleet.done(ActionKind.EVACUATE_REGION)) == 2


def test_a_person_can_order_a_healthy_region_away() -> None:
    """Each node is asked to stop; what has stopped is evacuated."""
    fleet = WatchedFleet()
    fleet.directives = Directives(forced=frozenset({"region/eu"}))
    fleet.run(20)
    assert len(fleet.done(ActionKind.FENCE_NODE)) == 4
    for node in fleet.region("eu"):
        node.stop_acknowledged = True
    fleet.tick()
    [(_, action)] = fleet.done(ActionKind.EVACUATE_REGION)
    assert len(action.nodes) == 4


def test_a_living_region_that_was_ordered_away_can_go_home_again() -> None:
    """Its agents leave with the run that stops them; the evacuation is remembered all the same."""
    fleet = WatchedFleet(policy=BACK)
    fleet.directives = Directives(forced=frozenset({"region/eu"}))
    fleet.tick()
    assert len(fleet.done(ActionKind.FENCE_NODE)) == 4
    for node in fleet.region("eu"):
        node.agents = 0
        node.stop_acknowledged = True
    fleet.abroad["eu"] = 40
    fleet.tick()
    assert fleet.done(ActionKind.EVACUATE_REGION) == []
    [incident] = {one.incident for _, one in fleet.done(ActionKind.FENCE_NODE)}
    mark = fleet.state.regions["eu"]
    assert (mark.evacuated_s, mark.evacuation) == (fleet.now_s - BACK.tick_interval_s, incident)
    fleet.tick()
    assert incident not in fleet.incidents
    fleet.directives = Directives(rehearsed=frozenset({"eu"}))
    for node in fleet.region("eu"):
        node.live()
    back_s = fleet.now_s
    fleet.run(BACK.fail_back_calm_s + BACK.probation_max_s)
    [(at_s, action)] = fleet.done(ActionKind.FAIL_BACK)
    assert at_s - back_s >= BACK.fail_back_calm_s
    assert (action.incident, action.agents) == (incident, 40)


def test_a_node_that_was_ordered_away_alone_is_no_evacuation() -> None:
    """Also where it is the only one of its region."""
    fleet = WatchedFleet(policy=BACK, nodes_per_region=1)
    fleet.directives = Directives(forced=frozenset({"node/eu-00"}))
    fleet.run(20)
    assert len(fleet.done(ActionKind.FENCE_NODE)) == 1
    assert all(mark.evacuated_s is None for mark in fleet.state.regions.values())


def test_a_region_of_one_node_is_judged_as_a_region() -> None:
    """There is no place left in it."""
    fleet = WatchedFleet(policy=AUTO, nodes_per_region=1)
    fleet["eu-00"].die()
    fleet.run(250)
    assert fleet.done(ActionKind.MOVE_NODE) == []
    assert len(fleet.done(ActionKind.EVACUATE_REGION)) == 1


# -- going home ----------------------------------------------------------------------------------


def _evacuated(policy: FailoverPolicy = BACK) -> WatchedFleet:
    fleet = WatchedFleet(policy=policy)
    _kill(fleet, "eu")
    fleet.run(200)
    for node in fleet.region("eu"):
        node.live()
    fleet.run(150)
    return fleet


def test_agents_go_home_after_a_long_calm_in_steps_until_none_is_abroad() -> None:
    """40 agents, 15 a step, one step a minute; then the region is forgotten."""
    fleet = _evacuated(replace(BACK, fail_back_step_agents=15))
    fleet.directives = Directives(rehearsed=frozenset({"eu"}))
    fleet.run(2400)
    times = [at_s for at_s, _ in fleet.done(ActionKind.FAIL_BACK)]
    assert len(times) == 3
    assert min(b - a for a, b in pairwise(times)) >= 60
    assert fleet.abroad["eu"] == 0
    assert fleet.state.regions == {}


def test_the_rehearsal_is_asked_for_once_when_the_region_is_calm() -> None:
    """Nothing moves before it has succeeded."""
    fleet = _evacuated()
    fleet.run(2400)
    assert len(fleet.done(ActionKind.REHEARSE_FAIL_BACK)) == 1
    assert fleet.done(ActionKind.FAIL_BACK) == []


def test_a_relapse_restarts_the_calm() -> None:
    """One node blinks after 25 minutes: another 30 minutes."""
    fleet = _evacuated()
    fleet.directives = Directives(rehearsed=frozenset({"eu"}))
    fleet.run(1500)
    fleet["eu-00"].die()
    fleet.run(40)
    fleet["eu-00"].live()
    relapse_s = fleet.now_s
    fleet.run(2400)
    assert fleet.done(ActionKind.FAIL_BACK)[0][0] - relapse_s >= PRODUCTION.fail_back_calm_s


def test_a_relapse_in_the_middle_aborts_the_fail_back() -> None:
    """The home region gets worse while agents are on their way."""
    fleet = _evacuated(replace(BACK, fail_back_step_agents=5))
    fleet.directives = Directives(rehearsed=frozenset({"eu"}))
    while not fleet.done(ActionKind.FAIL_BACK):
        fleet.tick()
    fleet["eu-00"].die()
    fleet.run(120)
    assert len(fleet.done(ActionKind.ABORT_FAIL_BACK)) == 1


def test_manual_is_proposed_and_waits_off_is_never_done() -> None:
    """The default: a person approves the key, at whatever hour."""
    fleet = _evacuated(replace(AUTO, fail_back_hours_utc=(20, 21)))
    fleet.directives = Directives(rehearsed=frozenset({"eu"}))
    fleet.run(2000)
    assert fleet.done(ActionKind.FAIL_BACK) == []
    key = fleet.refused(Rule.FAIL_BACK_MODE)[-1].action.key
    fleet.directives = fleet.directives._replace(approved=frozenset({key}))
    fleet.tick()
    assert len(fleet.done(ActionKind.FAIL_BACK)) == 1
    off = _evacuated(replace(AUTO, fail_back_mode=FailBackMode.OFF))
    off.run(2000)
    assert not any(missed.approvable for missed in off.refused(Rule.FAIL_BACK_MODE))


def test_a_region_is_given_up_in_an_incident_of_its_own_whatever_its_nodes_have() -> None:
    """The only node with agents has one already when the last, empty one is lost, too."""
    fleet = WatchedFleet(policy=AUTO, nodes_per_region=2)
    fleet["eu-01"].agents = 0
    fleet["eu-00"].die()
    fleet["eu-00"].lease_ttl_s = 300.0
    fleet.run(120)
    [(_, single)] = fleet.done(ActionKind.OPEN_INCIDENT)
    assert single.subject == "node/eu-00"
    fleet["eu-01"].die()
    fleet.run(400)
    [(_, evacuation)] = fleet.done(ActionKind.EVACUATE_REGION)
    opened = [action.incident for _, action in fleet.done(ActionKind.OPEN_INCIDENT)]
    assert opened == [single.incident, evacuation.incident]
    assert evacuation.incident.startswith("region-eu-")
    assert fleet.checker.open_incidents() == {}
