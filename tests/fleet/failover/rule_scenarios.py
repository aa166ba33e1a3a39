"""One small history for each rule in which that rule is all that stands before a broken promise.

Run with every rule in force nothing is violated; run without its rule the checker must notice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from fleet.failover.policy import FailBackMode, FailoverPolicy, Mode, RegionMode
from fleet.failover.profiles import PRODUCTION
from fleet.failover.records import AgentCrashes, Directives, LeaderFacts
from fleet.failover.rules import Rule
from tests.fleet.failover.watched_fleet import WatchedFleet

_Without = frozenset[Rule]
AUTO = replace(PRODUCTION, region_mode=RegionMode.AUTO)


def _fleet(without: _Without, policy: FailoverPolicy = PRODUCTION, **facts: int) -> WatchedFleet:
    return WatchedFleet(policy=policy, without=without, **facts)  # type: ignore[arg-type]


def store_down(without: _Without) -> WatchedFleet:
    """The store goes away when a node is about to be moved."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet.run(60)
    fleet.store_reachable = False
    fleet.run(60)
    return fleet


def observers_down(without: _Without) -> WatchedFleet:
    """Most observers stop reporting to us."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet.run(60)
    fleet.observers_reporting = 4
    fleet.run(60)
    return fleet


def everybody_silent(without: _Without) -> WatchedFleet:
    """Eleven of twelve nodes fall silent within two minutes, one region after another."""
    fleet = _fleet(without, AUTO)
    for node in list(fleet.nodes.values())[1:]:
        node.die()
    fleet.run(300)
    return fleet


def own_pause(without: _Without) -> WatchedFleet:
    """We sleep for ten minutes; a node that died before is confirmed the moment we wake."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet.run(50)
    fleet.tick(600)
    fleet.run(20)
    return fleet


def blind_probes(without: _Without) -> WatchedFleet:
    """The probe network fails: every observer calls every node dead."""
    fleet = _fleet(without)
    for node in fleet.nodes.values():
        node.vote_dead()
    fleet.run(120)
    return fleet


def two_controllers(without: _Without) -> WatchedFleet:
    """Another controller holds the lease."""
    fleet = _fleet(without)
    fleet.leader = LeaderFacts(held=False, term=6, left_s=0.0, renewed=False, holder="other")
    fleet["eu-00"].die()
    fleet.run(120)
    return fleet


def short_silence(without: _Without) -> WatchedFleet:
    """A silence of half a minute, with votes and a stop."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet["eu-00"].stop_acknowledged = True
    fleet.run(45)
    return fleet


def working_but_silent(without: _Without) -> WatchedFleet:
    """No heartbeat arrives, but its agents go on working and write."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet["eu-00"].works = True
    fleet.run(120)
    return fleet


def hasty_confirmation(without: _Without) -> WatchedFleet:
    """The votes are there at once; the suspicion is young."""
    return short_silence(without)


def minority(without: _Without) -> WatchedFleet:
    """One of three observers says dead, two say nothing."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet["eu-00"].vote_dead(1, 0)
    fleet.run(120)
    return fleet


def one_domain(without: _Without) -> WatchedFleet:
    """All dead votes come from one failure domain."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet["eu-00"].vote_dead(3, 0, 1, 3)
    fleet.run(120)
    return fleet


def nobody_outside(without: _Without) -> WatchedFleet:
    """All dead votes come from the node's own region."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet["eu-00"].vote_dead(3, 0, 2, 0)
    fleet.run(120)
    return fleet


def terminated(without: _Without) -> WatchedFleet:
    """The infrastructure knows, nobody votes."""
    fleet = _fleet(without)
    fleet["eu-00"].terminate(fleet.now_s)
    fleet["eu-00"].vote_dead(0, 0, 0, 0)
    fleet.run(300)
    return fleet


def long_lease(without: _Without) -> WatchedFleet:
    """The dead node's agents hold leases of five minutes."""
    fleet = _fleet(without)
    fleet["eu-00"].lease_ttl_s = 300.0
    fleet["eu-00"].die()
    fleet.run(200)
    return fleet


def split_vote(without: _Without) -> WatchedFleet:
    """The observers are divided and stay so."""
    fleet = _fleet(without, replace(PRODUCTION, observers_min=2))
    fleet.observers = 4
    fleet["eu-00"].die()
    fleet["eu-00"].vote_dead(2, 2)
    fleet.run(200)
    return fleet


def return_after_move(without: _Without) -> WatchedFleet:
    """A node comes back after its agents were moved."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet.run(100)
    fleet["eu-00"].live()
    fleet.run(200)
    return fleet


def stubborn_copies(without: _Without) -> WatchedFleet:
    """A node comes back and does not stop its stale copies."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet.run(100)
    fleet.obeys = False
    fleet["eu-00"].live()
    fleet.run(300)
    return fleet


def flapping(without: _Without) -> WatchedFleet:
    """A node goes silent for 40 s three times."""
    fleet = _fleet(without)
    for _ in range(3):
        fleet["eu-00"].die()
        fleet.run(40)
        fleet["eu-00"].live()
        fleet.run(40)
    return fleet


def gray(without: _Without) -> WatchedFleet:
    """A node beats, but no observer can use it."""
    fleet = _fleet(without)
    fleet["eu-00"].vote_dead()
    fleet.run(120)
    return fleet


def maintenance(without: _Without) -> WatchedFleet:
    """A node is switched off by somebody who said so."""
    fleet = _fleet(without)
    fleet["eu-00"].maintenance = True
    fleet["eu-00"].die()
    fleet.run(200)
    return fleet


def thaw(without: _Without) -> WatchedFleet:
    """The store comes back after two minutes; a node has been silent all the while."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet.run(50)
    fleet.store_reachable = False
    fleet.run(120)
    fleet.store_reachable = True
    fleet.run(20)
    return fleet


def paused(without: _Without) -> WatchedFleet:
    """Somebody has paused the automation."""
    fleet = _fleet(without)
    fleet.directives = Directives(paused="ada: migration")
    fleet["eu-00"].die()
    fleet.run(120)
    return fleet


def dry_run(without: _Without) -> WatchedFleet:
    """The mode only observes."""
    fleet = _fleet(without, replace(PRODUCTION, node_mode=Mode.OBSERVE))
    fleet["eu-00"].die()
    fleet.run(120)
    return fleet


def blast(without: _Without) -> WatchedFleet:
    """Four nodes of different regions die, a minute apart: a third of all agents."""
    fleet = _fleet(without)
    for name in ("ap-00", "eu-00", "us-00", "ap-01"):
        fleet[name].die()
        fleet.run(60)
    fleet.run(120)
    return fleet


def many_at_once(without: _Without) -> WatchedFleet:
    """Two nodes die in one moment."""
    fleet = _fleet(without, nodes_per_region=8)
    fleet["ap-00"].die()
    fleet["eu-00"].die()
    fleet.run(120)
    return fleet


def again_and_again(without: _Without) -> WatchedFleet:
    """A node is terminated, comes back with agents, and is terminated again."""
    policy = replace(PRODUCTION, probation_s=10.0)
    fleet = _fleet(without, policy)
    for _ in range(2):
        fleet["eu-00"].terminate(fleet.now_s)
        fleet.run(20)
        fleet["eu-00"].live()
        fleet["eu-00"].stale = 0
        fleet.run(60)
        fleet["eu-00"].agents = 1
    return fleet


def region_lost(without: _Without) -> WatchedFleet:
    """A whole region falls silent; a person is asked."""
    fleet = _fleet(without, AUTO)
    for node in fleet.region("eu"):
        node.die()
    fleet.run(100)
    return fleet


def region_partial(without: _Without) -> WatchedFleet:
    """Three of four nodes of a region are terminated."""
    fleet = _fleet(without)
    for node in fleet.region("eu")[:3]:
        node.terminate(fleet.now_s)
    fleet.run(60)
    return fleet


def region_hasty(without: _Without) -> WatchedFleet:
    """A whole region is terminated; two minutes have not passed."""
    fleet = _fleet(without, AUTO)
    for node in fleet.region("eu"):
        node.terminate(fleet.now_s)
    fleet.run(60)
    return fleet


def region_by_a_person(without: _Without) -> WatchedFleet:
    """A region is lost, and the mode asks for a person who never answers."""
    fleet = _fleet(without)
    for node in fleet.region("eu"):
        node.die()
    fleet.run(300)
    return fleet


def second_region(without: _Without) -> WatchedFleet:
    """One region is evacuated, then a second one is lost."""
    fleet = WatchedFleet(
        policy=AUTO, without=without, regions=("ap", "eu", "sa", "us"), nodes_per_region=3
    )
    for region in ("eu", "us"):
        for node in fleet.region(region):
            node.die()
        fleet.run(300)
    return fleet


def crash_loop(without: _Without) -> WatchedFleet:
    """An agent crashes three times on a healthy node."""
    fleet = _fleet(without)
    fleet.crashes = (AgentCrashes("cpu-1", "eu-00", 4, 3),)
    fleet.run(30)
    return fleet


def _evacuated(without: _Without, policy: FailoverPolicy) -> WatchedFleet:
    """A region was evacuated and is back, all healthy."""
    fleet = _fleet(without, policy)
    for node in fleet.region("eu"):
        node.die()
    fleet.run(200)
    for node in fleet.region("eu"):
        node.live()
    fleet.run(300)
    return fleet


BACK = replace(AUTO, fail_back_mode=FailBackMode.AUTO)
_REHEARSED = Directives(rehearsed=frozenset({"eu"}))


def home_too_soon(without: _Without) -> WatchedFleet:
    """The region has been calm for a few minutes."""
    fleet = _evacuated(without, BACK)
    fleet.directives = _REHEARSED
    fleet.run(300)
    return fleet


def home_unasked(without: _Without) -> WatchedFleet:
    """Nobody has approved the fail-back."""
    fleet = _evacuated(without, AUTO)
    fleet.directives = _REHEARSED
    fleet.run(2000)
    return fleet


def home_unrehearsed(without: _Without) -> WatchedFleet:
    """Nobody has rehearsed it."""
    fleet = _evacuated(without, BACK)
    fleet.run(2000)
    return fleet


def home_at_night(without: _Without) -> WatchedFleet:
    """It is not the hour for it."""
    fleet = _evacuated(without, replace(BACK, fail_back_hours_utc=(20, 22)))
    fleet.directives = _REHEARSED
    fleet.run(2000)
    return fleet


def home_at_once(without: _Without) -> WatchedFleet:
    """Forty agents, ten a step."""
    fleet = _evacuated(without, replace(BACK, fail_back_step_agents=10))
    fleet.directives = _REHEARSED
    fleet.run(2000)
    return fleet


def stateless_first(without: _Without) -> WatchedFleet:
    """Agents that may run twice need not wait for a lease of five minutes."""
    fleet = _fleet(without)
    fleet["eu-00"].lease_ttl_s = 300.0
    fleet["eu-00"].stateless = 4
    fleet["eu-00"].die()
    fleet.run(120)
    return fleet


def forgetful_successor(without: _Without) -> WatchedFleet:
    """Somebody else led; what was moved under it cannot be read."""
    fleet = _fleet(without)
    fleet["eu-00"].die()
    fleet.run(60)
    fleet.leader, fleet.earlier_moves = fleet.leader._replace(term=8), None
    fleet.run(60)
    return fleet


SCENARIOS: dict[Rule, tuple[Callable[[_Without], WatchedFleet], str]] = {
    Rule.STORE_REACHABLE: (store_down, "frozen_changes_nothing"),
    Rule.OBSERVER_MAJORITY: (observers_down, "frozen_changes_nothing"),
    Rule.MASS_LOSS: (everybody_silent, "frozen_changes_nothing"),
    Rule.TICK_GAP: (own_pause, "frozen_changes_nothing"),
    Rule.CHANNEL_FAULT: (blind_probes, "frozen_changes_nothing"),
    Rule.EARLIER_MOVES: (forgetful_successor, "frozen_changes_nothing"),
    Rule.LEADER_LEASE: (two_controllers, "one_acts"),
    Rule.SILENCE: (short_silence, "no_early_move"),
    Rule.CONTRARY_EVIDENCE: (working_but_silent, "no_move_against_evidence"),
    Rule.CONFIRM_TIME: (hasty_confirmation, "no_early_move"),
    Rule.VOTE_MAJORITY: (minority, "no_move_on_suspicion"),
    Rule.VOTE_DOMAINS: (one_domain, "no_move_on_suspicion"),
    Rule.VOTE_OUTSIDE: (nobody_outside, "no_move_on_suspicion"),
    Rule.TERMINATED: (terminated, "dead_is_moved"),
    Rule.FENCING: (long_lease, "fenced_before_move"),
    Rule.UNDECIDED: (split_vote, "undecided_is_told"),
    Rule.PROBATION: (return_after_move, "probation"),
    Rule.STALE_EPOCHS: (stubborn_copies, "stale_stopped_first"),
    Rule.FLAPPING: (flapping, "flapping"),
    Rule.GRAY: (gray, "gray_is_told"),
    Rule.MAINTENANCE: (maintenance, "maintenance"),
    Rule.AGES_RESTART: (thaw, "no_early_move"),
    Rule.PAUSED: (paused, "paused"),
    Rule.MODE: (dry_run, "mode"),
    Rule.BLAST_RADIUS: (blast, "blast_radius"),
    Rule.MOVE_RATE: (many_at_once, "move_rate"),
    Rule.COOL_DOWN: (again_and_again, "cool_down"),
    Rule.REGION_SUSPECT: (region_lost, "region_as_a_whole"),
    Rule.REGION_PARTIAL: (region_partial, "region_partial"),
    Rule.REGION_VERDICT: (region_hasty, "region_verdict"),
    Rule.REGION_MODE: (region_by_a_person, "region_mode"),
    Rule.SECOND_REGION: (second_region, "one_region_at_a_time"),
    Rule.CRASH_LOOP: (crash_loop, "crash_loop"),
    Rule.STATELESS: (stateless_first, "stateless_first"),
    Rule.FAIL_BACK_CALM: (home_too_soon, "fail_back_calm"),
    Rule.FAIL_BACK_MODE: (home_unasked, "fail_back_mode"),
    Rule.FAIL_BACK_REHEARSAL: (home_unrehearsed, "fail_back_rehearsal"),
    Rule.FAIL_BACK_WINDOW: (home_at_night, "fail_back_window"),
    Rule.FAIL_BACK_RATE: (home_at_once, "fail_back_rate"),
}
"""Rule -> its history, and the promise that breaks without it."""

NO_LIMIT = frozenset({Rule.FORCED, Rule.PLACED_ELSEWHERE})
"""Rules that explain and hold nothing back."""


@cache
def lawful(rule: Rule) -> WatchedFleet:
    """The rule's history with every rule in force; shared, so only to be looked at."""
    return SCENARIOS[rule][0](frozenset())
