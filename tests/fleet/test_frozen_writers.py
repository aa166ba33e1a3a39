"""A frozen writer is ended only when every look says the same, for long enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.frozen_writers import (
    LOOKS_MIN,
    FrozenMemory,
    FrozenSighting,
    FrozenWriter,
    hold_limit_s,
    judge_frozen_writers,
)

HELD = FrozenSighting("n1", "boot-1", 100, 7, 1.25)
LIMIT_S = 1.5


def watch(
    looks: list[tuple[float, list[FrozenSighting]]], limit_s: float = LIMIT_S
) -> list[tuple[float, FrozenWriter]]:
    """Everything that is ended in a series of looks, with the moment."""
    memory, ended = FrozenMemory(), []
    for at_s, sightings in looks:
        memory, due = judge_frozen_writers(sightings, memory, at_s, limit_s)
        ended += [(at_s, one) for one in due]
    return ended


def test_a_writer_that_stays_frozen_is_ended_at_the_first_look_behind_the_limit() -> None:
    """Not before, and with what was seen."""
    [(at_s, writer), *_] = watch([(n * 0.25, [HELD]) for n in range(8)])
    assert at_s == LIMIT_S
    assert writer == FrozenWriter(HELD, LIMIT_S, 7)


@pytest.mark.parametrize(
    "changed",
    [
        HELD._replace(boot_id="boot-2"),
        HELD._replace(pid=101),
        HELD._replace(start_ticks=8),
        HELD._replace(cpu_s=1.26),
    ],
    ids=["another boot", "another process", "a pid given out again", "it has run meanwhile"],
)
def test_any_change_begins_the_wait_anew(changed: FrozenSighting) -> None:
    """What is seen now is not what was seen before."""
    looks = [(n * 0.5, [HELD if n < 3 else changed]) for n in range(6)]
    assert watch(looks) == []


def test_a_single_look_without_it_begins_the_wait_anew() -> None:
    """The lock was free, or the process went on, at least once."""
    assert watch([(n * 0.25, [] if n == 5 else [HELD]) for n in range(11)]) == []


def test_a_watcher_that_was_paused_itself_begins_anew() -> None:
    """It has not seen what happened between two looks that are far apart."""
    assert watch([(0.0, [HELD]), (0.1, [HELD]), (10.0, [HELD]), (10.1, [HELD])]) == []


def test_two_looks_are_not_enough() -> None:
    """However short the limit is."""
    assert watch([(0.0, [HELD]), (0.9, [HELD])], limit_s=0.5) == []
    assert len(watch([(n * 0.4, [HELD]) for n in range(LOOKS_MIN)], limit_s=0.5)) == 1


@given(ttl_s=st.floats(0.5, 86_400.0))
def test_other_nodes_keep_their_leases_meanwhile(ttl_s: float) -> None:
    """A fifth of a lease since the last renewal, the wait, and two looks, stay below 0.8 of it."""
    limit_s = hold_limit_s(ttl_s)
    assert 0.2 * ttl_s + limit_s + 2 * min(0.25, limit_s / 4) < 0.8 * ttl_s


STEPS_S = st.integers(1, 64).map(lambda parts: parts / 64)
"""Their sums and differences are exact: two ways of counting cannot differ by rounding."""


@given(st.lists(st.tuples(STEPS_S, st.lists(st.sampled_from([HELD]), max_size=1)), max_size=40))
def test_nothing_is_ended_that_was_not_held_all_the_time(
    looks: list[tuple[float, list[FrozenSighting]]],
) -> None:
    """Against plain counting: all looks of the last `limit_s` seconds have seen it."""
    at_s, timed = 0.0, []
    for step_s, seen in looks:
        at_s += step_s
        timed.append((at_s, seen))
    for ended_s, writer in watch(timed):
        window = [seen for look_s, seen in timed if ended_s - writer.held_s <= look_s <= ended_s]
        assert all(window)
        assert len(window) == writer.looks >= LOOKS_MIN
        assert writer.held_s >= LIMIT_S
