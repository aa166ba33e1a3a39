"""Seeded random search: partitions, pauses, skew, crashes of controllers and of runs at any step.

After every step: at most one copy of an agent can act; what still can act is never moved; nothing
moves on suspicion; a frozen controller removes nothing; limits hold. At the end of each history
every agent runs or is parked with a reason, and no incident is without an end.
"""

from __future__ import annotations

import pytest

from fleet.failover.rules import Rule
from tests.fakes.control_store import InMemoryControlStore
from tests.simulated.failover_drive import FailoverDrive
from tests.simulated.orders_of_play import Play
from tests.simulated.random_histories import RandomHistory
from tests.simulated.scenario import play
from tests.simulated.scenarios_fleet import SCENARIOS as FLEET
from tests.simulated.scenarios_nodes import SCENARIOS as NODES

_BY_NAME = {one.name: one for one in (*NODES, *FLEET)}

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
}
"""Rule -> the scenario in which it is needed, and the promise that breaks without it; those
that no scenario needs singly are in `tests/fleet/failover/rule_scenarios.py`."""


@pytest.mark.parametrize("first", range(0, 500, 10))
def test_promises_hold_in_random_histories(first: int) -> None:
    """Ten histories; the seed is in the failure's story."""
    for seed in range(first, first + 10):
        RandomHistory(seed).play_out()


@pytest.mark.long
@pytest.mark.parametrize("first", range(1000, 11_000, 50))
def test_promises_hold_in_many_random_histories(first: int) -> None:
    """The same, 10,000 times."""
    for seed in range(first, first + 50):
        RandomHistory(seed).play_out()


def test_the_same_seed_makes_the_same_history() -> None:
    """Line by line, else no failure could be looked at again."""
    first, second = RandomHistory(7), RandomHistory(7)
    first.play_out()
    second.play_out()
    assert first.drive.story.lines == second.drive.story.lines


@pytest.mark.parametrize("rule", list(NEEDED))
def test_without_a_rule_the_drive_names_the_broken_promise(rule: Rule) -> None:
    """The live controller decides without it; truth and checker look on."""
    name, promise = NEEDED[rule]
    drive = play(_BY_NAME[name], frozenset({rule}))
    assert promise in {one.invariant for one in drive.violations}


def test_truth_itself_notices_a_successor_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own memory is in order, and its own checker content: only the sum is not."""
    monkeypatch.setattr(InMemoryControlStore, "decided_moves", lambda _store, _window_s: [])
    with pytest.raises(AssertionError, match="blast_radius_of_all"):
        play(_BY_NAME["blast_radius_of_two_leaders"])


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
