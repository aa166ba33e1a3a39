"""The comparison of ledgers with the store finds each kind of damage, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import StateChange
from fleet.placement_history import PlacementRecord, find_stale_epochs
from tests.chaos.write_ledger import (
    Acknowledged,
    Finding,
    find_broken_order,
    find_lost_states,
    find_lost_writes,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)

WRITES = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1)
"""Who writes, whether its epoch has risen since, and whether it lived to write it down."""

History = tuple[list[StateChange], list[Acknowledged]]


def history(writes: list[tuple[int, bool, bool]]) -> History:
    """A sound change log, and the ledger of those writes whose answers were heard."""
    versions, epochs = [0] * 4, [1] * 4
    changes: list[StateChange] = []
    ledger: list[Acknowledged] = []
    for number, (agent, moved, heard) in enumerate(writes, start=1):
        versions[agent] += 1
        epochs[agent] += moved
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        name, version, epoch = f"a{agent}", versions[agent], epochs[agent]
        changes.append(StateChange(number, name, version, epoch, 1, digest, AT))
        if heard:
            ledger.append(Acknowledged(name, epoch, version, digest))
    return changes, ledger


def states(changes: list[StateChange]) -> dict[str, tuple[int, int, str]]:
    """What the store holds after these changes."""
    return {one.agent_id: (one.version, one.epoch, one.digest) for one in changes}


def judge(changes: list[StateChange], ledger: list[Acknowledged]) -> list[Finding]:
    """All three questions."""
    return [
        *find_lost_writes(ledger, changes),
        *find_broken_order(changes),
        *find_lost_states(states(changes), changes),
    ]


@given(WRITES)
def test_a_sound_history_has_no_findings(writes: list[tuple[int, bool, bool]]) -> None:
    """Also when answers were lost, and whatever epochs rose."""
    assert judge(*history(writes)) == []


@given(WRITES.filter(lambda one: any(heard for *_, heard in one)), st.data())
def test_an_acknowledged_write_that_is_missing_is_found(
    writes: list[tuple[int, bool, bool]], data: st.DataObject
) -> None:
    """Whichever entry of the log is taken out; so is one that was replaced or given away."""
    changes, ledger = history(writes)
    lost = data.draw(st.sampled_from(ledger))
    index = next(
        n for n, one in enumerate(changes) if one[1:3] == (lost.agent_id, lost.version)
    )  # agent and version
    without = changes[:index] + changes[index + 1 :]
    (finding,) = find_lost_writes(ledger, without)
    expected = f"version {lost.version} of epoch {lost.epoch} is not in the change log"
    assert finding == Finding(lost.agent_id, expected)
    other: list[Callable[[StateChange], StateChange]] = [
        lambda one: one._replace(digest="0" * 64),
        lambda one: one._replace(epoch=one.epoch + 1),
    ]
    for damage in other:
        doctored = [*changes[:index], damage(changes[index]), *changes[index + 1 :]]
        (finding,) = find_lost_writes(ledger, doctored)
        assert f"version {lost.version} was acknowledged to epoch {lost.epoch}" in finding.problem


@given(WRITES.filter(lambda one: len(one) > 1))
def test_a_log_that_skips_repeats_or_turns_back_is_found(
    writes: list[tuple[int, bool, bool]],
) -> None:
    """A version twice, a version too few, a lower epoch after a higher one."""
    changes, _ = history([(0, moved, heard) for _, moved, heard in writes])
    last = changes[-1]
    again = last._replace(change_id=last.change_id + 1)
    assert len(find_broken_order([*changes, again])) == 1
    assert len(find_broken_order(changes[1:])) == 1
    stale = last._replace(
        change_id=last.change_id + 1, version=last.version + 1, epoch=last.epoch - 1
    )
    (finding,) = find_broken_order([*changes, stale])
    assert finding.problem == (
        f"version {stale.version} was written under epoch {stale.epoch}, "
        f"after epoch {last.epoch} had written version {last.version}"
    )


@given(WRITES)
def test_a_state_that_is_not_the_newest_is_found(writes: list[tuple[int, bool, bool]]) -> None:
    """An older version, another body, or none at all."""
    changes, _ = history(writes)
    agent = changes[-1].agent_id
    version, epoch, digest = states(changes)[agent]
    for wrong in ((version - 1, epoch, digest), (version, epoch, "0" * 64), None):
        held = {name: one for name, one in states(changes).items() if name != agent}
        if wrong:
            held[agent] = wrong
        (finding,) = find_lost_states(held, changes)
        assert finding.agent_id == agent


def test_a_stale_write_before_the_new_copy_has_written_is_found_by_the_placement_history() -> None:
    """The change log alone cannot know it: the move's row says which change it saw last."""
    rows = [
        PlacementRecord(number, "a0", f"n{number}", "r", number, 1, "running", "", AT, change_id)
        for number, change_id in ((1, 0), (2, 1))
    ]
    changes = [
        StateChange(number, "a0", number, epoch, 1, "", AT)
        for number, epoch in ((1, 1), (2, 1), (3, 2))
    ]
    assert find_broken_order(changes) == []
    (breach,) = find_stale_epochs(rows, changes)
    assert "version 2 was stored as change 2 under epoch 1, after the move" in breach.problem
    assert find_stale_epochs(rows, [changes[0], changes[2]]) == []
