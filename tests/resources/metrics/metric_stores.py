"""Metric stores for tests: a clock in hand, small batches, and what a store holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from fleet.metrics.histogram_columns import HistogramSamples
from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.levels import HOUR_MS, Level
from fleet.metrics.rollup_plan import find_dirty
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from fleet.metrics.store_facts import PartitionMade
from fleet.ports.object_store import ObjectStore
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.part_files import PartFiles
from resources.metrics.rolling import roll_up_partition
from resources.object_store.directory import DirectoryObjectStore
from tests.fakes.clock import ManualClock
from tests.fakes.object_store import InMemoryObjectStore
from tests.fleet.metrics.plain_histograms import NativeHistogram, in_columns

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)
TEN_MS = NOON_MS - 2 * HOUR_MS


def metric_store(
    objects: ObjectStore | None = None,
    clock: ManualClock | None = None,
    *,
    shards: int = 2,
    root: Path | None = None,
    cache: Path | None = None,
    writer: str = "",
    sketched: Iterable[str] = (),
) -> ObjectMetricStore:
    """A store at half past noon, on memory unless said otherwise."""
    objects = InMemoryObjectStore() if objects is None else objects
    clock = clock or half_past_noon()
    files = PartFiles(objects, root=root, cache=cache)
    return ObjectMetricStore(
        objects, files, shards=shards, now=clock.now, writer=writer, sketched=sketched
    )


def half_past_noon() -> ManualClock:
    """A clock at 12:30."""
    clock = ManualClock(NOON)
    clock.advance(1800)
    return clock


def info(
    name: str, node: int, *, interval_ms: int | None = 15_000, sketched: bool = False
) -> SeriesInfo:
    """A gauge of a node."""
    labels = labels_of(name, {"node": f"n{node}"})
    return SeriesInfo(labels, MetricType.GAUGE, interval_ms=15_000, sketched=sketched)


def ident(name: str, node: int) -> int:
    """Identity of a gauge of a node."""
    return series_id(info(name, node).labels)


def batch(
    samples: Iterable[tuple[int, int, float]], name: str = "cpu", *, sketched: bool = False
) -> SampleBatch:
    """A batch of (node, time, value)."""
    rows = list(samples)
    infos = {ident(name, node): info(name, node, sketched=sketched) for node, _, _ in rows}
    return SampleBatch(
        np.array([ident(name, node) for node, _, _ in rows], np.int64),
        np.array([ts_ms for _, ts_ms, _ in rows], np.int64),
        np.array([value for _, _, value in rows], np.float64),
        infos,
    )


def with_histograms(given: SampleBatch) -> SampleBatch:
    """The batch with native histograms of some of its series, each minute."""
    rows = [
        (one, ts_ms)
        for one, ts_ms in zip(given.series_ids.tolist(), given.ts_ms.tolist(), strict=True)
        if one % 3 and ts_ms % 60_000 == 0
    ]
    found = HistogramSamples(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        in_columns([histogram_at(ts_ms) for _, ts_ms in rows]),
    )
    return replace(given, histograms=found)


def histogram_at(ts_ms: int) -> NativeHistogram:
    """A counter that begins anew every 25 minutes, once with less detail."""
    life, age = divmod(ts_ms // 60_000, 25)
    buckets = {at: 1 + age * (at % 3) for at in range(-3, 4)}
    total = sum(buckets.values()) + age
    return NativeHistogram(2 - life % 2, 0.001, age, total, age / 4, buckets, {})


def steady(nodes: int, start_ms: int, minutes: int) -> list[tuple[int, int, float]]:
    """A sample every 15 s of some nodes, values that differ."""
    return [
        (node, start_ms + 15_000 * step, float((node * 7919 + step * 31) % 1000) / 4)
        for node in range(nodes)
        for step in range(1, 4 * minutes + 1)
    ]


def append_many(root: Path, writer: int, count: int) -> None:
    """A writer of its own process."""
    store = metric_store(DirectoryObjectStore(root), root=root, writer=str(writer))
    for each in range(count):
        store.append(batch([(writer, TEN_MS + 1 + each, float(each))]), f"{writer}-{each}")


def make_all(store: ObjectMetricStore) -> list[PartitionMade]:
    """Make every dirty partition, level by level."""
    return [
        roll_up_partition(store, level, partition_ms)
        for level in Level
        for partition_ms in dirty_of(store, level)
    ]


def dirty_of(store: ObjectMetricStore, level: Level) -> list[int]:
    """Starts of dirty partitions, newest first."""
    with store.log.reading() as state:
        return [one.partition_ms for one in find_dirty(state, level, store.open_from_ms())]


def built_files(store: ObjectMetricStore) -> Mapping[tuple[str, int, int, str], str]:
    """sha256 of every rollup file that counts, by level, partition, shard and kind."""
    found = {}
    with store.log.reading() as state:
        for level, built in state.rollups.items():
            for (start, shard), made in built.items():
                for kind in ("records", "sketches", "histograms"):
                    file = getattr(made, kind)
                    if file is not None:
                        found[level.text, start, shard, kind] = file.sha256
    return found


def rows_of(
    store: ObjectMetricStore, ids: Iterable[int], start_ms: int, end_ms: int
) -> list[tuple[int, int, float]]:
    """Samples of series as plain rows."""
    found = store.samples(np.array(sorted(ids), np.int64), start_ms, end_ms)
    return list(
        zip(found.series_ids.tolist(), found.ts_ms.tolist(), found.values.tolist(), strict=True)
    )
