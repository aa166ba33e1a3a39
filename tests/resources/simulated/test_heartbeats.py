"""The computed heartbeat equals the one found by stepping through every beat."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from resources.simulated.heartbeats import (
    Condition,
    Segment,
    append_segment,
    grid_after,
    grid_floor,
    latest_beat,
)

INTERVAL = 10

conditions = st.builds(
    Condition,
    up=st.booleans(),
    paused=st.booleans(),
    store_cut=st.booleans(),
    delay_us=st.sampled_from([0, 3, 10, 25, 60]),
    skew_us=st.sampled_from([0, -7, 40]),
)
histories = st.lists(st.tuples(st.integers(0, 30), conditions), max_size=8)


def stepped(
    changes: list[tuple[int, Condition]], phase: int, now: int
) -> tuple[int, int, int] | None:
    """The dumb twin: send every beat, one after the other; keep the newest that has arrived."""
    best = None
    for sent in range(-INTERVAL, now + 1):
        if (sent - phase) % INTERVAL == 0:
            condition = [c for at, c in changes if at <= sent][-1]
            works = condition.up and not condition.paused and not condition.store_cut
            if works and sent + condition.delay_us <= now:
                best = (sent, sent + condition.delay_us, sent + condition.skew_us)
    return best


@settings(deadline=None)
@given(histories, st.integers(0, INTERVAL - 1), st.lists(st.integers(0, 60), max_size=5))
def test_the_newest_arrived_beat_is_that_of_a_stepped_simulation(
    history: list[tuple[int, Condition]], phase: int, looks: list[int]
) -> None:
    """For any history of conditions and any moments of looking; forgetting loses nothing."""
    segments = [Segment(-INTERVAL, Condition(), 1, 0)]
    changes = [(-INTERVAL, Condition())]
    now = 0
    for wait, condition in history:
        now += wait
        append_segment(segments, Segment(now, condition, 1, 0), phase, INTERVAL)
        changes.append((now, condition))
        beat = latest_beat(segments, phase, INTERVAL, now)
        assert (beat and beat[:3]) == stepped(changes, phase, now)
    for look in sorted(looks):
        beat = latest_beat(segments, phase, INTERVAL, now + look)
        assert (beat and beat[:3]) == stepped(changes, phase, now + look)


def test_a_second_change_at_one_moment_brings_no_older_beat_to_oblivion() -> None:
    """Up and down again at a grid moment: the beat from long before is still the newest."""
    segments = [Segment(-INTERVAL, Condition(), 1, 0)]
    for at, up in ((0, False), (40, True), (40, False)):
        append_segment(segments, Segment(at, Condition(up=up), 1, 0), 0, INTERVAL)
    beat = latest_beat(segments, 0, INTERVAL, 40)
    assert beat is not None
    assert beat.sent_us == -INTERVAL


@settings(deadline=None)
@given(st.integers(-1000, 1000), st.integers(0, 9))
def test_the_grid_has_one_moment_in_every_interval(at: int, phase: int) -> None:
    """Floor and next moment enclose any time, one interval apart."""
    below, above = grid_floor(at, phase, INTERVAL), grid_after(at, phase, INTERVAL)
    assert below <= at < above
    assert above - below == INTERVAL
    assert (below - phase) % INTERVAL == 0


def test_a_flapping_node_does_not_pile_up_its_past() -> None:
    """What no look can need any more is forgotten."""
    segments = [Segment(0, Condition(), 1, 0)]
    for turn in range(1, 1000):
        condition = Condition(up=turn % 2 == 0)
        append_segment(segments, Segment(turn * 50, condition, 1, 0), 0, INTERVAL)
    assert len(segments) <= 3
