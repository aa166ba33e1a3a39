"""Makes shards of partitions: 1m from samples, others from the level below, whole each time.

Commit point: one log entry for all shards of a partition. Killed before it, files lie there that no
entry names; run again, equal inputs give equal bytes. A shard that somebody else has brought up to
date meanwhile is left out of the entry.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.metrics.histogram_records import (
    HistogramRecords,
    merge_histograms,
    ordered_records,
    roll_up_histograms,
)
from fleet.metrics.levels import Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.rolling_up import merge, roll_up
from fleet.metrics.rollup_plan import find_dirty
from fleet.metrics.sketches import SketchColumns, concat_sketches, merge_sketches, sketch
from fleet.metrics.store_facts import PartitionMade
from fleet.metrics.store_log import RollupEntry, RollupFile, RollupShard
from fleet.metrics.store_state import LOWER, StoreState, hour_key
from fleet.ports.metric_store import RawPart
from resources.metrics.appending import nonce
from resources.metrics.histogram_appending import merge_histogram_parts
from resources.metrics.histogram_parts import (
    encode_histogram_records,
    read_histogram_records,
    read_histograms,
)
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.raw_parts import CHUNK_ROWS, open_samples, read_merged, take_samples
from resources.metrics.record_parts import RecordWriter, open_records
from resources.metrics.series_ranges import cuts, interleaved, series_starts
from resources.metrics.series_sampling import SeriesSampling, load_sampling
from resources.metrics.sketch_parts import encode_sketches, read_sketches
from resources.metrics.store_log import translated

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, Int64Array

RECORDS_AT_ONCE = 512 * 1024
"""Records that a merge of levels holds, about; 144 bytes each."""


class _Task(NamedTuple):
    """A dirty shard, and what it is made from."""

    shard: int
    inputs: str
    raw: tuple[RawPart, ...]
    histograms: tuple[RawPart, ...]
    lower: tuple[RollupShard, ...]


class _Made(NamedTuple):
    records: bytes
    rows: int
    sketches: SketchColumns | None
    conflicts: int
    histograms: HistogramRecords | None = None


def roll_up_partition(
    store: ObjectMetricStore, level: Level, partition_ms: int, chunk_rows: int = CHUNK_ROWS
) -> PartitionMade:
    """Make the dirty shards of a partition; does nothing when none is dirty.

    Args:
        store: the metric store.
        level: of the rollup.
        partition_ms: start of the partition.
        chunk_rows: samples held at a time, about; memory follows from it.

    Raises:
        CorruptObjectError: a part is damaged; it is named.
        LakeUnavailableError: the store does not answer; nothing is committed.
    """
    tasks = _tasks(store, level, partition_ms)
    sampling = load_sampling(store) if tasks and level == Level.M1 else None
    made = []
    for task in tasks:
        if sampling is not None:
            found = _from_samples(store, sampling, task.raw, chunk_rows)
        else:
            found = _from_records(store, level, task.lower)
        found = found._replace(histograms=_histograms(store, level, task))
        made.append(_stored(store, level, partition_ms, task, found))
    if made:
        _commit(store, level, partition_ms, tuple(made))
    return PartitionMade(
        level,
        partition_ms,
        len(made),
        sum(one.records.rows for one in made if one.records),
        sum(one.records.size_bytes for one in made if one.records),
        sum(one.sketches.rows for one in made if one.sketches),
        sum(one.conflicts for one in made),
        sum(one.histograms.rows for one in made if one.histograms),
    )


def _tasks(store: ObjectMetricStore, level: Level, partition_ms: int) -> list[_Task]:
    """Dirty shards with their inputs, as of one state of the log."""
    open_from = store.open_from_ms()
    with store.log.reading() as state:
        dirty = {one.partition_ms: one for one in find_dirty(state, level, open_from)}
        if partition_ms not in dirty:
            return []
        return [
            _Task(
                shard,
                state.inputs(level, partition_ms, shard, open_from),
                tuple(live.part for live in state.parts(partition_ms, shard)),
                tuple(live.part for live in state.parts(partition_ms, shard, histograms=True)),
                _lower(state, level, partition_ms, shard, open_from),
            )
            for shard in dirty[partition_ms].shards
        ]


def _lower(
    state: StoreState, level: Level, partition_ms: int, shard: int, open_from: int
) -> tuple[RollupShard, ...]:
    """What the level below has of a partition, in order of time."""
    if level == Level.M1:
        return ()
    below = LOWER[level]
    ends = min(partition_ms + level.partition_ms, open_from)
    starts = range(partition_ms, ends, below.partition_ms)
    found = (state.rollups[below].get((start, shard)) for start in starts)
    return tuple(one for one in found if one is not None)


def _from_samples(
    store: ObjectMetricStore,
    sampling: SeriesSampling,
    parts: tuple[RawPart, ...],
    chunk_rows: int,
) -> _Made:
    """Records of a minute, and sketches of five, in ranges of series."""
    writer = RecordWriter(Level.M1)
    sketches: list[SketchColumns] = []
    conflicts = 0
    readers = [open_samples(store.files.open(part)) for part in parts]
    for piece in read_merged(readers, chunk_rows):
        conflicts += piece.conflicts
        samples = piece.samples
        ids = samples.ids[series_starts(samples.ids)]
        intervals = sampling.intervals(ids)
        writer.write(roll_up(*samples, Level.M1, intervals))
        flags = sampling.sketched(ids)
        if flags.any():
            chosen = take_samples(samples, _rows(samples.ids, flags))
            sketches.append(sketch(*chosen, Level.M5))
    found = concat_sketches(sketches) if sketches else None
    return _Made(writer.finish(), writer.rows, found, conflicts)


def _from_records(store: ObjectMetricStore, level: Level, lower: tuple[RollupShard, ...]) -> _Made:
    """Records and sketches of a level from those of the one below, in ranges of series."""
    below = LOWER[level]
    writer = RecordWriter(level)
    files = [one.records for one in lower if one.records is not None]
    readers = [open_records(store.files.open(file), below) for file in files]
    above = -(2**63)
    for upto in cuts(readers, RECORDS_AT_ONCE):
        rows = interleaved([reader.read(above, upto) for reader in readers])
        writer.write(merge(RollupColumns(*rows), below, level))
        above = upto
    kept = [one.sketches for one in lower if one.sketches is not None]
    found = None
    if kept:
        parts = [read_sketches(store.files.open(file)) for file in kept]
        found = merge_sketches(concat_sketches(parts), level)
    return _Made(writer.finish(), writer.rows, found, 0)


def _histograms(store: ObjectMetricStore, level: Level, task: _Task) -> HistogramRecords | None:
    """Records of the native histograms of a shard; None where it has none."""
    if level == Level.M1:
        if not task.histograms:
            return None
        parts = [read_histograms(store.files.open(part)) for part in task.histograms]
        return roll_up_histograms(merge_histogram_parts(parts), level)
    files = [one.histograms for one in task.lower if one.histograms is not None]
    if not files:
        return None
    found = [read_histogram_records(store.files.open(file)) for file in files]
    return merge_histograms(ordered_records(found), level)


def _stored(
    store: ObjectMetricStore, level: Level, partition_ms: int, task: _Task, made: _Made
) -> RollupShard:
    """Store the files of a shard; not committed by it."""
    place = f"{level.text}/{hour_key(partition_ms)}/{task.shard:04d}"
    records = _store(store, f"rollups/{place}", made.records, made.rows) if made.rows else None
    sketches = None
    if made.sketches is not None and len(made.sketches):
        data = encode_sketches(made.sketches)
        sketches = _store(store, f"sketches/{place}", data, len(made.sketches))
    histograms = None
    if made.histograms is not None and len(made.histograms):
        data = encode_histogram_records(made.histograms)
        histograms = _store(store, f"histograms/{place}", data, len(made.histograms))
    return RollupShard(task.shard, task.inputs, records, sketches, made.conflicts, histograms)


def _store(store: ObjectMetricStore, folder: str, data: bytes, rows: int) -> RollupFile:
    digest = hashlib.sha256(data).hexdigest()
    file = RollupFile(f"{folder}/{nonce()}-{digest}.parquet", rows, len(data), digest)
    with translated():
        store.objects.create(file.key, data)
    return file


def _commit(
    store: ObjectMetricStore, level: Level, partition_ms: int, made: tuple[RollupShard, ...]
) -> None:
    """Name the files in the log, except of shards that are up to date without them."""
    open_from = store.open_from_ms()

    def build(state: StoreState) -> RollupEntry | None:
        if partition_ms < state.floors_ms[level]:
            return None
        needed = tuple(
            one
            for one in made
            if state.built(level, partition_ms, one.shard)
            != state.inputs(level, partition_ms, one.shard, open_from)
        )
        return RollupEntry(store.now(), level, partition_ms, needed) if needed else None

    store.log.commit(build)


def _rows(ids: Int64Array, flags: BoolArray) -> BoolArray:
    """Flags of series as flags of their rows."""
    return np.repeat(flags, np.diff(series_starts(ids), append=len(ids)))
