"""Keeps a metric store small and sound: merges parts, lets old ones go, finds and heals damage.

Everything is planned by `fleet.metrics.rollup_plan` from the log, committed by one entry, and finds
nothing to do when it is repeated. Objects are deleted only after no entry names them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from fleet.errors import CorruptObjectError, NotFoundError
from fleet.metrics.levels import Level
from fleet.metrics.rollup_plan import (
    CompactionDue,
    MetricPolicy,
    RetentionPlan,
    find_compactions,
    plan_retention,
)
from fleet.metrics.store_facts import Damage, Upkept
from fleet.metrics.store_log import (
    CompactionEntry,
    DiscardEntry,
    RetentionEntry,
    SeriesCompactionEntry,
    SeriesPart,
)
from fleet.metrics.store_state import LOWER, StoreState
from fleet.ports.metric_keeper import Verified
from fleet.ports.metric_store import RawPart
from resources.metrics.appending import EncodedPart, raw_part
from resources.metrics.histogram_appending import histogram_part, merge_histogram_parts
from resources.metrics.histogram_parts import read_histograms
from resources.metrics.metric_store import ObjectMetricStore, store_series
from resources.metrics.raw_parts import SampleWriter, open_samples, read_merged
from resources.metrics.series_parts import encode_rows, merge_tables, read_rows
from resources.metrics.store_log import translated

if TYPE_CHECKING:
    from resources.metrics.part_files import Stored

COLLECT_AFTER = timedelta(days=1)
"""Age of an object that no entry names before it is deleted; an append is done long before."""
SERIES_PARTS_MAX = 64
"""Parts of the catalogue beyond which they are merged into one."""
_FOLDERS = ("raw/", "series/", "rollups/", "sketches/", "histograms/")


def compact_hours(store: ObjectMetricStore, limit: int) -> list[CompactionDue]:
    """Merge the parts of hours that are worth it, newest first.

    Args:
        store: the metric store.
        limit: how many at most; the rest waits for the next run.

    Returns:
        What was merged.
    """
    with store.log.reading() as state:
        due = find_compactions(state, store.open_from_ms())[:limit]
    return [
        one for one in due if compact_hour(store, one.hour_ms, one.shard, histograms=one.histograms)
    ]


def compact_hour(
    store: ObjectMetricStore, hour_ms: int, shard: int, *, histograms: bool = False
) -> bool:
    """Merge the live parts of an hour and shard into one; False when others were there first.

    Committed by a log entry that is added only while all sources are live.
    """
    with store.log.reading() as state:
        parts = [live.part for live in state.parts(hour_ms, shard, histograms=histograms)]
    if len(parts) < 2:
        return False
    merge = _merged_histograms if histograms else _merged_samples
    (part, data), conflicts = merge(store, hour_ms, shard, parts)
    with translated():
        store.objects.create(part.key, data)
    sources = tuple(one.key for one in parts)

    def build(state: StoreState) -> CompactionEntry | None:
        live = (state.histograms if histograms else state.raw).get((hour_ms, shard), {})
        if not all(key in live for key in sources):
            return None
        return CompactionEntry(store.now(), sources, part, conflicts, histograms)

    return store.log.commit(build) is not None


def _merged_samples(
    store: ObjectMetricStore, hour_ms: int, shard: int, parts: list[RawPart]
) -> tuple[EncodedPart, int]:
    """One part with the samples of several, and how many contradicted each other."""
    writer, conflicts = SampleWriter(), 0
    for piece in read_merged([open_samples(store.files.open(part)) for part in parts]):
        conflicts += piece.conflicts
        writer.write(piece.samples)
    data = writer.finish()
    part = raw_part(hour_ms, shard, data, writer.rows, (writer.min_ts_ms, writer.max_ts_ms))
    return EncodedPart(part, data), conflicts


def _merged_histograms(
    store: ObjectMetricStore, hour_ms: int, shard: int, parts: list[RawPart]
) -> tuple[EncodedPart, int]:
    """The same for native histograms; contradictions among them are not counted."""
    found = [read_histograms(store.files.open(part)) for part in parts]
    return histogram_part(hour_ms, shard, merge_histogram_parts(found)), 0


def compact_series(store: ObjectMetricStore, parts_max: int = SERIES_PARTS_MAX) -> bool:
    """Merge the parts of the catalogue when there are many; False when there was nothing to do."""
    with store.log.reading() as state:
        parts = list(state.series.values())
    if len(parts) <= parts_max:
        return False
    table = merge_tables([read_rows(store.files.open(part)) for part in parts])
    merged = store_series(store.objects, encode_rows(table), table.num_rows)
    sources = tuple(one.key for one in parts)

    def build(state: StoreState) -> SeriesCompactionEntry | None:
        if not all(key in state.series for key in sources):
            return None
        return SeriesCompactionEntry(store.now(), sources, merged)

    return store.log.commit(build) is not None


def retain(store: ObjectMetricStore, policy: MetricPolicy) -> Upkept:
    """Raise the floors as far as the policy wants and what is built allows; delete what lies below.

    Committed by the `retention` entry; objects are deleted after it, and by the next run if this
    one is killed.
    """
    plans: list[RetentionPlan] = []

    def build(state: StoreState) -> RetentionEntry | None:
        plan = plan_retention(state, policy, store.now_ms())
        plans.append(plan)
        if plan.raw_floor_ms == state.raw_floor_ms and plan.floors_ms == state.floors_ms:
            return None
        return RetentionEntry(store.now(), plan.raw_floor_ms, plan.floors_ms)

    store.log.commit(build)
    removed, removed_bytes = collect(store)
    store.log.write_snapshot()
    with store.log.reading() as state:
        oldest = next((one.entry for one in state.batches.values()), state.entry + 1)
    return Upkept(plans[-1], removed, removed_bytes, store.log.trim(oldest))


def collect(store: ObjectMetricStore) -> tuple[int, int]:
    """Delete objects that no entry names and that are older than a day.

    Returns:
        Objects and bytes.
    """
    with translated():
        listed = [one for folder in _FOLDERS for one in store.objects.list_objects(folder)]
    # The state is read after the listing: what was committed in between is named in it.
    with store.log.reading() as state:
        live = state.live_keys()
    before = store.now() - COLLECT_AFTER
    doomed = [one for one in listed if one.key not in live and one.modified_at < before]
    with translated():
        store.objects.delete([one.key for one in doomed])
    return len(doomed), sum(one.size_bytes for one in doomed)


def verify_objects(store: ObjectMetricStore, limit: int, offset: int = 0) -> Verified:
    """Read live objects anew and compare their bytes; a damaged rollup is discarded and made anew.

    Args:
        store: the metric store.
        limit: how many objects are read; 0 for all.
        offset: how many of the live objects, by key, are passed over; wraps around.
    """
    with store.log.reading() as state:
        objects = _live_objects(state)
    if limit and objects:
        start = offset % len(objects)
        objects = (objects[start:] + objects[:start])[:limit]
    found = []
    for one, level, place in objects:
        try:
            store.files.verify(one)
        except (CorruptObjectError, NotFoundError) as error:
            healed = level is not None and _discard(store, level, place, one.key, str(error))
            what = level.text if level is not None else one.key.partition("/")[0]
            found.append(Damage(one.key, what, healed, str(error)))
    return Verified(len(objects), tuple(found))


def _live_objects(state: StoreState) -> list[tuple[Stored, Level | None, tuple[int, int]]]:
    """Every object that counts, by key."""
    places = [*state.raw.values(), *state.histograms.values()]
    raw: list[RawPart] = [live.part for parts in places for live in parts.values()]
    series: list[SeriesPart] = list(state.series.values())
    objects: list[tuple[Stored, Level | None, tuple[int, int]]] = []
    objects += [(one, None, (0, 0)) for one in raw]
    objects += [(one, None, (0, 0)) for one in series]
    for level, built in state.rollups.items():
        for place, made in built.items():
            objects += [(file, level, place) for file in made.files()]
    return sorted(objects, key=lambda each: each[0].key)


def _discard(
    store: ObjectMetricStore, level: Level, place: tuple[int, int], key: str, reason: str
) -> bool:
    """Have a shard made anew, when what it is made from is still there."""

    def build(state: StoreState) -> DiscardEntry | None:
        made = state.rollups[level].get(place)
        floor = state.raw_floor_ms if level == Level.M1 else state.floors_ms[LOWER[level]]
        if made is None or place[0] < floor:
            return None
        if key not in {file.key for file in made.files()}:
            return None
        return DiscardEntry(store.now(), level, *place, reason=reason)

    return store.log.commit(build) is not None
