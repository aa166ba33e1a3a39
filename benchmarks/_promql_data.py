"""Samples that `promql.py` asks about, in the metric store, in memory and in Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fleet.metrics.histogram_columns import HistogramSamples, no_histogram_samples
from fleet.metrics.histogram_records import HistogramRecords
from fleet.metrics.labels import Labels, Matcher, labels_of, metric_of, series_id
from fleet.metrics.levels import Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.rollup_plan import find_dirty
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from fleet.metrics.sketches import SketchColumns, concat_sketches
from fleet.ports.metric_store import SelectedSeries
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.part_files import PartFiles
from resources.metrics.rolling import roll_up_partition
from resources.object_store.directory import DirectoryObjectStore

HOUR = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR_MS = round(HOUR.timestamp() * 1000)
END_MS = HOUR_MS + 15 * 60_000
SAMPLES = 60
BOUNDS = ("0.1", "0.5", "1", "5", "+Inf")


class ArrayReader:
    """All samples in arrays: what the engine itself takes."""

    def __init__(self, batch: SampleBatch) -> None:
        """Take a batch that is ordered by (series, time)."""
        self.batch = batch
        self.ids = np.unique(batch.series_ids)
        self.infos = [batch.series[int(one)] for one in self.ids]

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> SelectedSeries:  # noqa: ARG002
        """By metric alone."""
        name = matchers[0].value
        rows = [n for n, info in enumerate(self.infos) if metric_of(info.labels) == name]
        return SelectedSeries(self.ids[rows], [self.infos[n] for n in rows])

    def samples(self, ids: Any, start_ms: int, end_ms: int) -> SampleBatch:
        """Those of some series in a range."""
        low, high = np.searchsorted(self.batch.series_ids, [ids[0], ids[-1] + 1])
        times = self.batch.ts_ms[low:high]
        kept = (times > start_ms) & (times <= end_ms)
        return SampleBatch(
            self.batch.series_ids[low:high][kept], times[kept], self.batch.values[low:high][kept]
        )

    def records(self, ids: Any, level: Level, start_ms: int, end_ms: int) -> RollupColumns:
        """None: no level is said to cover anything."""
        raise AssertionError(level, ids, start_ms, end_ms)

    def sketches(self, ids: Any, level: Level, start_ms: int, end_ms: int) -> SketchColumns:  # noqa: ARG002
        """None."""
        return concat_sketches([])

    def histograms(self, ids: Any, start_ms: int, end_ms: int) -> HistogramSamples:  # noqa: ARG002
        """None."""
        return no_histogram_samples()

    def histogram_records(
        self, ids: Any, level: Level, start_ms: int, end_ms: int
    ) -> HistogramRecords:
        """None: no level is said to cover anything."""
        raise AssertionError(level, ids, start_ms, end_ms)

    def covers(self, level: Level, start_ms: int, end_ms: int) -> bool:  # noqa: ARG002
        """No."""
        return False

    def keeps_raw(self, start_ms: int, end_ms: int) -> bool:  # noqa: ARG002
        """Yes."""
        return True


def series_of(count: int) -> list[Labels]:
    """Counters of agents, and half as many buckets of histograms."""
    counters = [
        labels_of(
            "tasks_total",
            {"agent": f"agent-{n:06d}", "region": f"region-{n % 7}", "node": f"node-{n % 1000}"},
        )
        for n in range(count)
    ]
    buckets = [
        labels_of(
            "took_bucket",
            {"agent": f"agent-{n:06d}", "region": f"region-{n % 7}", "le": bound},
        )
        for n in range(count // 2 // len(BOUNDS))
        for bound in BOUNDS
    ]
    return counters + buckets


def batch_of(rows: Sequence[Labels]) -> SampleBatch:
    """Counters with a reset in one of fifty; times off the borders of windows."""
    rng = np.random.default_rng(7)
    steps = rng.integers(0, 5, (len(rows), SAMPLES)).astype(np.float64)
    values = np.cumsum(steps, axis=1)
    resets = rng.random(len(rows)) < 0.02
    values[resets, SAMPLES // 2 :] -= values[resets, SAMPLES // 2 - 1][:, None]
    for n, labels in enumerate(rows):
        if metric_of(labels) == "took_bucket":
            values[n] *= 1 + BOUNDS.index(dict(labels)["le"])
    ids = np.array([series_id(labels) for labels in rows], np.int64)
    order = np.argsort(ids)
    times = HOUR_MS + 2250 + 15_000 * np.arange(SAMPLES, dtype=np.int64)
    infos = {
        int(one): SeriesInfo(labels, MetricType.COUNTER, interval_ms=15_000)
        for one, labels in zip(ids, rows, strict=True)
    }
    return SampleBatch(
        np.repeat(ids[order], SAMPLES), np.tile(times, len(rows)), values[order].ravel(), infos
    )


def metric_store(folder: Path, batch: SampleBatch) -> ObjectMetricStore:
    """The product's store with the samples; rollups come later."""
    objects = DirectoryObjectStore(folder)
    store = ObjectMetricStore(
        objects, PartFiles(objects, folder), shards=4, now=lambda: datetime.now(UTC)
    )
    store.append(batch, "all")
    return store


def roll_up_all(store: ObjectMetricStore) -> None:
    """Build every level."""
    for level in Level:
        with store.log.reading() as state:
            dirty = find_dirty(state, level, store.open_from_ms())
        for one in dirty:
            roll_up_partition(store, level, one.partition_ms)


def parquet_of(folder: Path, batch: SampleBatch) -> Path:
    """The samples sorted as the store sorts them, with the metric as a number."""
    names = {identity: metric_of(info.labels) for identity, info in batch.series.items()}
    metric = np.array(
        [names[int(one)] != "tasks_total" for one in batch.series_ids[::SAMPLES]]
    ).astype(np.int8)
    table = pa.table(
        {
            "metric": np.repeat(metric, SAMPLES),
            "series_id": batch.series_ids,
            "ts": batch.ts_ms,
            "value": batch.values,
        }
    )
    path = folder / "samples.parquet"
    pq.write_table(table, path, compression="zstd", row_group_size=262_144)
    return path
