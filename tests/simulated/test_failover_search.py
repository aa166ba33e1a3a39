"""Seeded random search: partitions, pauses, skew, crashes of controllers and of runs at any step.

After every step: at most one copy of an agent can act; what still can act is never moved; nothing
moves on suspicion; a frozen controller removes nothing; limits hold. At the end of each history
every agent runs or is parked with a reason, and no incident is without an end.
"""

from __future__ import annotations

import pytest

from fleet.failover.rules import Rule
from tests.fakes.control_store import InMemoryControlStore
from tests.simulated.all_scenarios import BY_NAME
from tests.simulated.failover_drive import FailoverDrive
from tests.simulated.orders_of_play import Play
from tests.simulated.random_histories import RandomHistory
from tests.simulated.scenario import play

NEEDED = {
    Rule.FENCING: ("long_lease", "fenced_before_move"),
    Rule.PROBATION: ("probation", "probation"),
    Rule.GRAY: ("gray", "gray_is_told"),
    Rule.MAINTENANCE: ("maintenance", "maintenance"),
    Rule.PAUSED: ("automation_paused", "paused"),
    Rule.MODE: ("dry_run", "mode"),
    Rule.BLAST_RADIUS: ("blast_radius", "blast_radius"),
    Rule.MOVE_RATE: ("many_at_once", "move_rate"),
    Rule.REGION_SUSPECT: ("region_terminated", "region_as_a_whole"),
    Rule.REGION_PARTIAL: ("three_quarters_of_a_region", "region_partial"),
    Rule.REGION_VERDICT: ("region_terminated", "region_verdict"),
    Rule.REGION_MODE: ("region_off", "region_mode"),
    Rule.SECOND_REGION: ("second_region", "one_region_at_a_time"),
    Rule.FAIL_BACK_RATE: ("fail_back_auto", "fail_back_rate"),
    Rule.STORE_REACHABLE: ("store_goes_before_a_move", "frozen_changes_nothing"),
    Rule.OBSERVER_MAJORITY: ("minority_of_observers", "frozen_changes_nothing"),
    Rule.MASS_LOSS: ("eleven_of_twelve_terminated", "frozen_changes_nothing"),
    Rule.TICK_GAP: ("own_pause", "frozen_changes_nothing"),
    Rule.CHANNEL_FAULT: ("observers_blind", "frozen_changes_nothing"),
    Rule.EARLIER_MOVES: ("moves_cannot_be_read", "frozen_changes_nothing"),
    Rule.LEADER_LEASE: ("standby_sees_the_same", "one_acts"),
    Rule.SILENCE: ("short_lease", "no_early_move"),
    Rule.CONFIRM_TIME: ("short_lease", "no_early_move"),
    Rule.CONTRARY_EVIDENCE: ("supervisor_hangs", "no_move_against_evidence"),
    Rule.VOTE_MAJORITY: ("undecided", "no_move_on_suspicion"),
    Rule.VOTE_DOMAINS: ("accused_from_one_zone", "no_move_on_suspicion"),
    Rule.VOTE_OUTSIDE: ("accused_by_its_own_region", "no_move_on_suspicion"),
    Rule.STATELESS: ("stateless", "stateless_first"),
    Rule.TERMINATED: ("only_the_infrastructure_knows", "dead_is_moved"),
    Rule.UNDECIDED: ("undecided", "undecided_is_told"),
    Rule.STALE_EPOCHS: ("copies_that_cannot_be_stopped", "stale_stopped_first"),
    Rule.FLAPPING: ("flapping", "flapping"),
    Rule.AGES_RESTART: ("freeze_within_an_incident", "no_early_move"),
    Rule.COOL_DOWN: ("moved_twice", "cool_down"),
    Rule.CRASH_LOOP: ("crash_loop", "crash_loop"),
    Rule.FAIL_BACK_CALM: ("fail_back_relapse", "fail_back_calm"),
    Rule.FAIL_BACK_MODE: ("rehearsed_is_not_approved", "fail_back_mode"),
    Rule.FAIL_BACK_REHEARSAL: ("fail_back_auto", "fail_back_rehearsal"),
    Rule.FAIL_BACK_WINDOW: ("fail_back_out_of_hours", "fail_back_window"),
}
"""Rule -> the scenario in which it is needed, and the promise that breaks without it."""

BESIDE = {
    Rule.STORE_REACHABLE: frozenset({Rule.OBSERVER_MAJORITY}),
    Rule.MASS_LOSS: frozenset({Rule.OBSERVER_MAJORITY}),
}
"""Rule -> others that hold the same promise in that history: who does not reach the store hears no
observer, and who has lost 90 % of all nodes has lost their reports. Either alone is enough."""

NOT_HERE = frozenset({Rule.FORCED, Rule.PLACED_ELSEWHERE})
"""They explain and hold nothing back."""


@pytest.mark.parametrize("first", range(0, 80, 10))
def test_promises_hold_in_random_histories(first: int) -> None:
    """Ten histories; the seed is in the failure's story."""
    for seed in range(first, first + 10):
        RandomHistory(seed).play_out()


def test_an_order_belongs_to_the_incident_that_a_person_has_opened_meanwhile() -> None:
    """History 1936: ours could not be opened, theirs was, and the move was told nowhere."""
    RandomHistory(1936).play_out()


@pytest.mark.long
@pytest.mark.parametrize("first", range(80, 11_000, 40))
def test_promises_hold_in_many_random_histories(first: int) -> None:
    """The same, 10,920 times."""
    for seed in range(first, first + 40):
        RandomHistory(seed).play_out()


def test_the_same_seed_makes_the_same_history() -> None:
    """Line by line, else no failure could be looked at again."""
    first, second = RandomHistory(7), RandomHistory(7)
    first.play_out()
    second.play_out()
    assert first.drive.story.lines == second.drive.story.lines


def _breaks(name: str, rule: Rule, without: frozenset[Rule]) -> bool:
    """Whether the promise that rests on a rule is broken; of a freeze, for the rule's reason."""
    promise = NEEDED[rule][1]
    return any(
        one.invariant == promise
        and (promise != "frozen_changes_nothing" or rule.value in one.detail)
        for one in play(BY_NAME[name], without).violations
    )


def test_every_rule_is_needed_somewhere() -> None:
    """A new rule without a history that needs it fails here."""
    assert set(NEEDED) == set(Rule) - NOT_HERE


@pytest.mark.parametrize("rule", list(NEEDED))
def test_without_a_rule_the_drive_names_the_broken_promise(rule: Rule) -> None:
    """The live controller decides without it; truth and checker look on."""
    assert _breaks(NEEDED[rule][0], rule, BESIDE.get(rule, frozenset()) | {rule})


@pytest.mark.parametrize("rule", list(BESIDE))
def test_a_rule_that_others_stand_beside_is_enough_by_itself(rule: Rule) -> None:
    """So it is this rule that makes the difference when all of them are switched off."""
    assert not _breaks(NEEDED[rule][0], rule, BESIDE[rule])


def test_truth_itself_notices_a_successor_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own memory is in order, and its own checker content: only the sum is not."""
    monkeypatch.setattr(InMemoryControlStore, "decided_moves", lambda _store, _window_s: [])
    with pytest.raises(AssertionError, match="blast_radius_of_all"):
        play(BY_NAME["blast_radius_of_two_leaders"])


def test_truth_itself_notices_a_missing_fence() -> None:
    """Not only by what was decided: two copies of one agent could act at the same time."""
    drive = FailoverDrive(without=frozenset({Rule.FENCING, Rule.CONTRARY_EVIDENCE}))
    Play(drive).do("deaf eu-1")
    Play(drive).do("isolate eu-1")
    moved = drive.store.place_agents(
        [
            one._replace(node_id="eu-2", term=drive.controllers["c1"].mind.lease.demand_term())  # type: ignore[union-attr]
            for one in drive.store.placements("eu-1")
        ]
    )
    drive.run(drive.pulse_s)
    drive.close()
    assert len(moved) == 2
    assert "fenced_before_move" in {one.invariant for one in drive.violations}
