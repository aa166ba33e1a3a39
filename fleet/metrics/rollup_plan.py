"""What is to be done with a metric store: which partitions are dirty, what may go, what to merge.

All are functions of the state that the log gives, and of the time: no cursor, no list of work that
could be lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.metrics.levels import DAY_MS, HOUR_MS, Level
from fleet.metrics.store_state import LOWER, NO_INPUTS, Place, StoreState, day_text

FOREVER_MS = 2**62
COMPACT_PARTS = 16
"""So many parts of an hour are merged whatever their size, also while it is open."""
COMPACT_SHARE = 4
"""Fewer are merged when all but the largest together have a quarter of its size."""


class MetricPolicy(NamedTuple):
    """How long what is kept, in whole days; a level is never kept shorter than a finer one."""

    keep_raw_days: int = 15
    keep_1m_days: int = 30
    keep_5m_days: int = 90
    keep_1h_days: int = 400
    keep_1d_days: int = 3650
    settle_s: int = 120
    """How long after its end an hour stays open for samples that are on their way."""


class DirtyPartition(NamedTuple):
    """A partition of a level that has to be made (again)."""

    level: Level
    partition_ms: int
    shards: tuple[int, ...]
    inputs: str
    """Changes when it becomes dirty once more."""


class RetentionPlan(NamedTuple):
    """New floors, and why each is not higher."""

    raw_floor_ms: int
    floors_ms: Mapping[Level, int]
    reasons: tuple[str, ...]


class CompactionDue(NamedTuple):
    """An hour and shard whose parts should be one."""

    hour_ms: int
    shard: int
    parts: int
    reason: str
    histograms: bool = False
    """Whether they are parts of native histograms."""


def validate_policy(policy: MetricPolicy) -> MetricPolicy:
    """The same policy when finer data never outlive coarser ones.

    Raises:
        InvalidInputError: names the first two that are the wrong way round.
    """
    names = policy._fields[:5]
    for finer, coarser in pairwise(names):
        if getattr(policy, finer) > getattr(policy, coarser):
            raise InvalidInputError(
                coarser, getattr(policy, coarser), f"at least {finer} ({getattr(policy, finer)})"
            )
    return policy


def open_from_ms(now_ms: int, settle_s: int) -> int:
    """Start of the first hour that is still open."""
    return (now_ms - settle_s * 1000) // HOUR_MS * HOUR_MS


def find_dirty(state: StoreState, level: Level, open_from: int) -> list[DirtyPartition]:
    """Partitions of a level that can be made and are not as their inputs say, newest first.

    Args:
        state: of the store; suspects that prove clean are struck off.
        level: of the rollup.
        open_from: hours that begin here or later are open.
    """
    found: dict[int, dict[int, str]] = {}
    for (start, shard), inputs in _dirty_shards(state, level, open_from):
        found.setdefault(start, {})[shard] = inputs
    return [
        DirtyPartition(
            level, start, tuple(sorted(shards)), ",".join(shards[one] for one in sorted(shards))
        )
        for start, shards in sorted(found.items(), reverse=True)
    ]


def covers(state: StoreState, level: Level, start_ms: int, end_ms: int, open_from: int) -> bool:
    """Whether a level is made from every sample of (start_ms, end_ms]."""
    if end_ms > open_from or start_ms < state.floors_ms[level]:
        return False
    for one in Level:
        if one > level:
            break
        for (start, _), _ in _dirty_shards(state, one, open_from, unmade=True):
            if start < end_ms and start + one.partition_ms > start_ms:
                return False
    return True


def plan_retention(state: StoreState, policy: MetricPolicy, now_ms: int) -> RetentionPlan:
    """Floors as high as the policy wants and what is built allows; never lower than they are."""
    today = now_ms // DAY_MS * DAY_MS
    keep = (
        policy.keep_raw_days,
        policy.keep_1m_days,
        policy.keep_5m_days,
        policy.keep_1h_days,
        policy.keep_1d_days,
    )
    names = ("raw", *(level.text for level in Level))
    current = (state.raw_floor_ms, *(state.floors_ms[level] for level in Level))
    guards: tuple[Level | None, ...] = (*Level, None)
    floors: list[int] = []
    reasons: list[str] = []
    above = FOREVER_MS
    for name, days, old, guard in zip(names, keep, current, guards, strict=True):
        wanted = today - days * DAY_MS
        allowed = FOREVER_MS if guard is None else _built_until(state, guard)
        floor = max(old, min(wanted, allowed, above))
        if allowed < wanted and guard is not None:
            reasons.append(
                f"{name} is kept from {day_text(floor)}: {guard.text} of {day_text(allowed)} "
                "is not built yet"
            )
        floors.append(floor)
        above = floor
    return RetentionPlan(floors[0], dict(zip(Level, floors[1:], strict=True)), tuple(reasons))


def plan_compaction(
    state: StoreState, hour_ms: int, shard: int, *, histograms: bool = False
) -> CompactionDue | None:
    """Whether the parts of an hour and shard should be merged into one now."""
    parts = [live.part for live in state.parts(hour_ms, shard, histograms=histograms)]
    if len(parts) < 2:
        return None
    sizes = sorted(part.size_bytes for part in parts)
    if len(parts) >= COMPACT_PARTS:
        return CompactionDue(hour_ms, shard, len(parts), f"{len(parts)} parts", histograms)
    if sum(sizes[:-1]) * COMPACT_SHARE >= sizes[-1]:
        reason = f"{len(parts)} parts of like size"
        return CompactionDue(hour_ms, shard, len(parts), reason, histograms)
    return None


def find_compactions(state: StoreState, open_from: int) -> list[CompactionDue]:
    """Hours that are worth merging, newest first; open ones only when they have many parts."""
    due = []
    places = [(*place, False) for place in state.raw]
    places += [(*place, True) for place in state.histograms]
    for hour_ms, shard, histograms in sorted(places, reverse=True):
        one = plan_compaction(state, hour_ms, shard, histograms=histograms)
        if one and (hour_ms < open_from or one.parts >= COMPACT_PARTS):
            due.append(one)
    return due


def _dirty_shards(
    state: StoreState, level: Level, open_from: int, *, unmade: bool = False
) -> Iterator[tuple[Place, str]]:
    """Suspects that are dirty, and what they should be made from.

    With `unmade`, days that are not over count as well where a rollup of them is asked for.
    """
    lowest = state.raw_floor_ms if level == Level.M1 else state.floors_ms[LOWER[level]]
    clean = []
    for place in state.suspects[level]:
        start, shard = place
        if start < lowest:
            clean.append(place)
            continue
        if start >= open_from:
            continue
        is_whole = start + level.partition_ms <= open_from
        if level == Level.D1 and not is_whole and not unmade:
            continue
        inputs = state.inputs(level, start, shard, open_from)
        if inputs != state.built(level, start, shard):
            if unmade or not _lacks_lower(state, level, place, open_from):
                yield place, inputs
        elif is_whole:
            clean.append(place)
    state.suspects[level].difference_update(clean)


def _lacks_lower(state: StoreState, level: Level, place: Place, open_from: int) -> bool:
    """Whether the level below has yet to be made where it never was, or was discarded."""
    if level == Level.M1:
        return False
    below, (start, shard) = LOWER[level], place
    ends = min(start + level.partition_ms, open_from)
    return any(
        state.built(below, each, shard) == NO_INPUTS
        and state.inputs(below, each, shard, open_from) != NO_INPUTS
        for each in range(start, ends, below.partition_ms)
    )


def _built_until(state: StoreState, level: Level) -> int:
    """Start of the first day with something of a level that is not built; far off without one."""
    dirty = [start for (start, _), _ in _dirty_shards(state, level, FOREVER_MS, unmade=True)]
    return min(dirty) // DAY_MS * DAY_MS if dirty else FOREVER_MS
