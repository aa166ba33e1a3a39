"""What a metric store is like and what was done to it, in numbers, and the claims made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

from fleet.inventory_checks import CheckVerdict, Offender, Severity, judge
from fleet.metrics.levels import HOUR_MS, Level
from fleet.metrics.rollup_plan import DirtyPartition, RetentionPlan, find_dirty
from fleet.metrics.store_log import Counted
from fleet.metrics.store_state import LOWER, NO_INPUTS, StoreState, add_counted

LAG_MAX_MS = 2 * HOUR_MS
"""How long a closed partition may wait to be made before that is a failure."""
LATE_SHARE_MAX = 0.1
"""Share of late samples from which somebody should look at a source's clock or queue."""


class MetricsDeclaration(NamedTuple):
    """Where the metric store lies, and how it is kept."""

    path: str
    """Folder of the store; of no meaning with a bucket."""
    bucket: str = ""
    prefix: str = ""
    endpoint_url: str = ""
    aws_region: str = ""
    cache_path: str = ""
    """Folder of copies of a bucket's objects."""
    cache_bytes: int = 8 * 1024**3
    shards: int = 4
    first_day: str = "2025-01-01"
    """First partition of the rollups; older samples are refused."""
    enabled: bool = True
    """Whether sensor and schedule run."""
    sketched: tuple[str, ...] = ()
    """Metrics whose series have sketches, so that quantiles outlive raw samples."""


class PartitionMade(NamedTuple):
    """What a run did to a partition."""

    level: Level
    partition_ms: int
    shards: int
    """Shards that were made; 0 when everything was up to date."""
    rows: int
    size_bytes: int
    sketches: int
    conflicts: int
    histograms: int = 0


class Damage(NamedTuple):
    """An object whose bytes are not those that were committed, or that is missing."""

    key: str
    what: str
    """`raw`, `series`, or the level."""
    healed: bool
    """Whether it counts no more and is made anew."""
    reason: str


class Upkept(NamedTuple):
    """What one run of retention did."""

    plan: RetentionPlan
    removed: int
    removed_bytes: int
    trimmed: int


class LevelFacts(NamedTuple):
    """One level of a store."""

    partitions: int
    rows: int
    size_bytes: int
    dirty: tuple[DirtyPartition, ...]
    """Newest first."""
    lag_ms: int
    """From the oldest time that waits to be made to the first open hour; 0 without one."""


class StoreFacts(NamedTuple):
    """A store at one moment."""

    commits: int
    raw_parts: int
    raw_rows: int
    raw_bytes: int
    open_rows: int
    """Of raw rows those of hours that are still open."""
    series_rows: int
    open_from_ms: int
    counted: Counted
    """Since the store was made."""
    recent: Counted
    """Of the newest 1,000 commits: what the claims about samples rest on."""
    levels: Mapping[Level, LevelFacts]


def facts_of(state: StoreState, open_from_ms: int) -> StoreFacts:
    """The facts of a state of the log."""
    raw = [*state.raw.items(), *state.histograms.items()]
    live = [(place, one.part) for place, parts in raw for one in parts.values()]
    return StoreFacts(
        commits=state.number,
        raw_parts=len(live),
        raw_rows=sum(part.rows for _, part in live),
        raw_bytes=sum(part.size_bytes for _, part in live),
        open_rows=sum(part.rows for (hour, _), part in live if hour >= open_from_ms),
        series_rows=sum(part.rows for part in state.series.values()),
        open_from_ms=open_from_ms,
        counted=state.counted,
        recent=reduce(add_counted, state.recent, Counted()),
        levels={level: _level_facts(state, level, open_from_ms) for level in Level},
    )


def check_lag(facts: StoreFacts, level: Level) -> CheckVerdict:
    """Whether every partition that can be made is made soon after its samples came."""
    found = facts.levels[level]
    offenders = [
        Offender(str(one.partition_ms), "", f"{len(one.shards)} shards are dirty")
        for one in found.dirty
        if facts.open_from_ms - one.partition_ms > LAG_MAX_MS + level.partition_ms
    ]
    return judge(
        f"{level.asset} has {len(found.dirty)} dirty partitions of {found.partitions}, "
        f"the oldest {found.lag_ms / 1000:.0f} s behind",
        found.partitions,
        offenders,
        numbers={"dirty": len(found.dirty), "lag_s": found.lag_ms / 1000},
    )


def check_refused(facts: StoreFacts) -> CheckVerdict:
    """Whether every sample that was sent could be stored."""
    counted = facts.recent
    reasons = {
        "future": (counted.refused_future, "more than an hour ahead of the store's clock"),
        "expired": (counted.refused_expired, "at or before the raw floor"),
    }
    offenders = [
        Offender(name, "", f"{count} samples were {why}")
        for name, (count, why) in reasons.items()
        if count
    ]
    return judge(
        f"{counted.stored} samples stored lately, "
        f"{counted.refused_future + counted.refused_expired} refused",
        2,
        offenders,
        severity=Severity.WARN,
        numbers={name: count for name, (count, _) in reasons.items()},
    )


def check_late(facts: StoreFacts) -> CheckVerdict:
    """Whether most samples come before their hour is rolled up."""
    counted = facts.recent
    share = counted.late / counted.stored if counted.stored else 0.0
    offenders = []
    if share > LATE_SHARE_MAX:
        offenders = [Offender("late", "", f"{share:.1%} of samples came for closed hours")]
    return judge(
        f"{counted.late} of {counted.stored} samples came late, {counted.conflicts} contradicted "
        "an earlier one",
        1,
        offenders,
        severity=Severity.WARN,
        numbers={"late": counted.late, "conflicts": counted.conflicts, "late_share": share},
    )


def check_damage(damages: Sequence[Damage], verified: int) -> CheckVerdict:
    """Whether stored bytes are those that were committed; damaged rollups are made anew."""
    offenders = [
        Offender(one.key, "", f"{one.reason}; {'made anew' if one.healed else 'lost'}")
        for one in damages
    ]
    lost = [one.key for one in damages if not one.healed]
    return judge(
        f"{verified} objects verified, {len(damages)} damaged, {len(lost)} cannot be made anew",
        verified,
        offenders,
        severity=Severity.ERROR if lost else Severity.WARN,
        numbers={"lost": len(lost)},
    )


def _level_facts(state: StoreState, level: Level, open_from_ms: int) -> LevelFacts:
    built = state.rollups[level]
    files = [one.records for one in built.values() if one.records is not None]
    dirty = tuple(find_dirty(state, level, open_from_ms))
    waiting = (_waits_from(state, one, open_from_ms) for one in dirty)
    oldest = min(waiting, default=open_from_ms)
    return LevelFacts(
        partitions=len({start for start, _ in built}),
        rows=sum(one.rows for one in files),
        size_bytes=sum(one.size_bytes for one in files),
        dirty=dirty,
        lag_ms=max(0, open_from_ms - oldest),
    )


def _waits_from(state: StoreState, dirty: DirtyPartition, open_from_ms: int) -> int:
    """The oldest time of a dirty partition that is not made as its inputs say.

    Days of 1h are made again after each of their hours: what an earlier run has made of the hours
    before does not wait.
    """
    level, start = dirty.level, dirty.partition_ms
    if level != Level.H1:
        return start
    ends = min(start + level.partition_ms, open_from_ms)
    below = LOWER[level]
    oldest = ends
    for shard in dirty.shards:
        hours = range(start, ends, below.partition_ms)
        asked = [hour for hour in hours if state.built(below, hour, shard) != NO_INPUTS]
        built = state.built(level, start, shard)
        made = (hour for hour in asked if state.inputs(level, start, shard, hour) == built)
        # late samples of an earlier hour make no such hour be found: all of them wait
        oldest = min(oldest, next(made, asked[0] if asked else start))
    return oldest
