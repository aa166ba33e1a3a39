"""Any moment of any history comes back as it was, or the restore says where it does not."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleet.errors import NotFoundError
from tests.examples import examples
from tests.fakes.journaled_fleet import JournaledFleet

AGENTS = 3
STEP = timedelta(microseconds=1)
Action = tuple[str, int]

writes = st.tuples(st.just("write"), st.integers(0, AGENTS - 1))
pauses = st.tuples(st.just("pause"), st.sampled_from([0, 1, 60, 400]))
others = st.tuples(st.sampled_from(["tick", "snapshot"]), st.just(0))
jumps = st.tuples(st.just("jump"), st.sampled_from([-86_400, -90, 90]))
histories = st.lists(st.one_of(writes, writes, pauses, others), max_size=20)
jumping = st.lists(st.one_of(writes, writes, pauses, others, others, jumps), max_size=20)


def played(actions: list[Action]) -> JournaledFleet:
    """A fleet after a history; begun by a snapshot and a tick."""
    fleet = JournaledFleet(AGENTS)
    for name, argument in actions:
        if name == "write":
            fleet.change(fleet.agent_ids[argument])
        elif name == "pause":
            fleet.clock.advance(argument)
        elif name == "jump":
            fleet.clock.jump(argument)
        else:
            if name == "tick":
                fleet.tick()
            else:
                fleet.snapshot()
            fleet.clock.advance(1e-6)  # what comes behind a look comes later
    return fleet


def moments(fleet: JournaledFleet) -> list[datetime]:
    """Every moment at which anything happened, the one before and the one after."""
    points = {one.updated_at for one in fleet.history} | {*fleet.taken, *fleet.covered}
    return sorted({point + step for point in points for step in (-STEP, timedelta(0), STEP)})


def demand(fleet: JournaledFleet, at: datetime) -> None:
    """Hold one moment against the twin."""
    if at > max([*fleet.taken, *fleet.covered[-1:]]):
        with pytest.raises(NotFoundError, match="is covered until"):
            fleet.restored_at(at)
    elif at < min(fleet.taken):
        with pytest.raises(NotFoundError, match="the oldest is of"):
            fleet.restored_at(at)
    else:
        try:
            assert fleet.check(at).certain
        except NotFoundError as error:
            # The clock has not come back to this moment: it was covered, but not since.
            assert fleet.only_seen and "nothing proves" in str(error)  # noqa: PT017, PT018


@settings(max_examples=examples(80))
@given(histories)
@example([("write", 0), ("snapshot", 0), ("pause", 1), ("write", 0), ("write", 0), ("tick", 0)])
def test_a_restore_at_any_moment_is_the_newest_version_by_then_or_says_so(
    actions: list[Action],
) -> None:
    """And a version that was live at a tick or snapshot of the journal's time is never lost."""
    fleet = played([("snapshot", 0), ("tick", 0), *actions])
    for at in moments(fleet):
        demand(fleet, at)
        if fleet.taken[0] <= at <= max([*fleet.taken, fleet.covered[-1]]):
            captured = {
                agent_id
                for agent_id, one in fleet.expected_at(at).items()
                if one[:3] in fleet.captured
            }
            assert captured <= fleet.exact, (at, captured - fleet.exact)
            if at <= fleet.covered[-1]:
                assert fleet.reported.isdisjoint(captured), at
    fleet.check(None)
    assert fleet.exact == fleet.expected_at(None).keys()


@settings(max_examples=examples(80))
@given(jumping)
@example([("write", 0), ("tick", 0), ("jump", -86_400), ("write", 0), ("tick", 0)])
@example([("jump", -90), ("write", 0), ("pause", 400), ("snapshot", 0)])
def test_a_clock_that_is_set_back_hides_nothing(actions: list[Action]) -> None:
    """Whatever the clocks did: never a version from after the moment, never a silent other one."""
    fleet = played([("snapshot", 0), ("tick", 0), *actions])
    fleet.only_seen = True
    for at in moments(fleet):
        demand(fleet, at)
    fleet.check(None)


@settings(max_examples=examples(40))
@given(histories, histories)
def test_before_the_journal_begins_restores_are_as_coarse_as_snapshots_and_say_so(
    before: list[Action], behind: list[Action]
) -> None:
    """Snapshots alone, then a journal that begins at one of them."""
    snapshots = [one for one in before if one[0] != "tick"]
    fleet = played([("snapshot", 0), *snapshots, *behind])
    for at in moments(fleet):
        demand(fleet, at)
