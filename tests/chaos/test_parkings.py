"""Parkings are judged by what was there: each kind of oversight is named, and no other."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from fleet.failover.profiles import EMBEDDED
from fleet.failover_moves import PlannedMove, encode_plan
from fleet.journal import JournalEntry
from fleet.placement_history import PlacementRecord
from tests.chaos.parkings import Look, bounds_of, find_needless_parkings, read_parkings

START = datetime(2026, 1, 5, tzinfo=UTC)
REGIONS = {"ap-1": "ap", "ap-2": "ap", "eu-1": "eu"}
BOUNDS = bounds_of(EMBEDDED)
NO_ROOM = "node ap-1 was lost (i); parked: no node of ap has room: ap-2: doubted"


def _at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def _looks(*, until_s: int, trusted: str = "", working: str = "", from_s: int = 0) -> list[Look]:
    """One in each second; the named node is there from `from_s` on."""
    return [
        Look(
            _at(second),
            frozenset({working or trusted} if second >= from_s else ()),
            frozenset({trusted} if second >= from_s else ()),
        )
        for second in range(until_s + 1)
    ]


def _row(reason: str = NO_ROOM, at_s: float = 200.0) -> PlacementRecord:
    return PlacementRecord(7, "a", "", "ap", 2, 1, "parked", reason, _at(at_s), 0)


def _judged(looks: list[Look], reason: str = NO_ROOM) -> list[str]:
    parkings, odd = read_parkings([_row(reason)], {}, REGIONS)
    assert odd == []
    return [one.problem for one in find_needless_parkings(parkings, looks, BOUNDS)]


@pytest.mark.parametrize(("since_s", "needless"), [(1, False), (29, False), (30, True)])
def test_a_node_that_the_leader_trusted_for_two_attempts_was_overlooked(
    since_s: int, needless: bool
) -> None:
    """30 s under the embedded profile; a shorter time may be younger than the order."""
    found = _judged(_looks(until_s=200, from_s=200 - since_s, trusted="ap-2"))
    assert bool(found) is needless


@pytest.mark.parametrize(("since_s", "needless"), [(89, False), (90, True)])
def test_a_node_that_works_is_not_doubted_for_ever(since_s: int, needless: bool) -> None:
    """The longest probation or quarantine, and two attempts."""
    found = _judged(_looks(until_s=200, from_s=200 - since_s, working="ap-2"))
    assert bool(found) is needless


def test_nodes_out_of_reach_do_not_count() -> None:
    """A single node's agents stay in their region; the lost node is none of its own targets."""
    assert _judged(_looks(until_s=200, trusted="eu-1")) == []
    assert _judged(_looks(until_s=200, trusted="ap-1")) == []
    region = "region ap was lost (i); parked: no node of eu has room: eu-1: 0 of 1 fit"
    assert _judged(_looks(until_s=200, trusted="ap-2"), region) == []
    (found,) = _judged(_looks(until_s=200, trusted="eu-1"), region)
    assert "although eu-1 had worked for 200 s and been trusted for 200 s" in found


def test_what_was_not_looked_at_is_not_held_against_anybody() -> None:
    """A gap in the looks, or their end, is as good as an absence."""
    whole = _looks(until_s=200, trusted="ap-2")
    assert _judged(whole) != []
    assert _judged([one for one in whole if not _at(175) < one.at < _at(190)]) == []
    assert _judged(whole[:190]) == []


def test_a_plan_is_judged_by_when_it_was_made() -> None:
    """A run that dies with its plan written down carries it out later."""
    plan = PlannedMove("a", 1, "ap-1", "", "ap", "parked", NO_ROOM)
    detail = json.dumps({"moves": encode_plan([plan])})
    journal = JournalEntry("i", "plan/5-0000", "done", "ap-1", "", _at(100.0), None, detail)
    parkings, _ = read_parkings([_row()], {"i": [journal]}, REGIONS)
    assert parkings[0].planned_at == _at(100.0)
    late = _looks(until_s=200, from_s=90, trusted="ap-2")
    assert find_needless_parkings(parkings, late, BOUNDS) == []
    early = _looks(until_s=200, from_s=60, trusted="ap-2")
    assert len(find_needless_parkings(parkings, early, BOUNDS)) == 1


def test_a_parking_that_chaos_cannot_cause_is_told() -> None:
    """Crash loops it can; states it never takes away."""
    looped = "parked: Park agent/a: a crash loop must not tour the fleet (restarts 3, limit 3)"
    assert read_parkings([_row(looped)], {}, REGIONS) == ([], [])
    damaged = "node ap-1 was lost (i); parked: its state is damaged, and no backup holds another"
    parkings, odd = read_parkings([_row(damaged)], {}, REGIONS)
    assert parkings == []
    assert [one.agent_id for one in odd] == ["a"]
