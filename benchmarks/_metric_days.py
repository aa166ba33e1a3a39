"""Part (d) of `metrics.py`: choosing series among millions, and reading a day of their records."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import duckdb
import numpy as np
from _metric_data import START_MS, STEP_MS, Sizes, median_of, open_store

from fleet.metrics.labels import Matcher, MatchKind, labels_of, series_id
from fleet.metrics.levels import DAY_MS, HOUR_MS, Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from fleet.metrics.store_log import RollupEntry, RollupFile, RollupShard
from resources.metrics.appending import nonce
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.record_parts import RecordWriter


def write_day(store: ObjectMetricStore, sizes: Sizes) -> None:
    """The catalogue of all series, and one day of their 1h records, without making samples."""
    start = time.perf_counter()
    infos = {}
    for metric in range(sizes.metrics):
        for agent in range(sizes.agents):
            labels = labels_of(
                f"metric_{metric}",
                {
                    "agent": f"agent-{agent:06d}",
                    "network": f"net-{agent % 50}",
                    "region": f"r{agent % 7}",
                },
            )
            infos[series_id(labels)] = SeriesInfo(labels, MetricType.GAUGE, "", "Help.", STEP_MS)
    ids = np.array(sorted(infos))
    batch = SampleBatch(ids, np.full(len(ids), START_MS + 1), np.ones(len(ids)), infos)
    store.append(batch, "series")
    print(f"    {len(ids)} series committed in {time.perf_counter() - start:.0f} s")
    writer = RecordWriter(Level.H1)
    rng = np.random.default_rng(3)
    ends = START_MS + HOUR_MS * np.arange(1, 25)
    for first in range(0, len(ids), 20_000):
        some = ids[first : first + 20_000]
        count = len(some) * 24
        low = np.round(rng.uniform(0, 50, count), 2)
        high = low + np.round(rng.uniform(0, 9, count), 2)
        end = np.tile(ends, len(some))
        mean = (low + high) / 2
        writer.write(
            RollupColumns(
                np.repeat(some, 24),
                end,
                np.full(count, 240),
                np.full(count, 240.0),
                mean * 240,
                np.zeros(count),
                low,
                high,
                end - HOUR_MS + STEP_MS,
                low,
                end,
                high,
                np.zeros(count),
                np.ones(count, np.bool_),
                np.zeros(count, np.int64),
                np.full(count, 200),
                mean,
                rng.uniform(0, 100, count),
            )
        )
    data = writer.finish()
    digest = hashlib.sha256(data).hexdigest()
    file = RollupFile(f"rollups/1h/day/{nonce()}-{digest}.parquet", writer.rows, len(data), digest)
    store.objects.create(file.key, data)
    shard = RollupShard(0, "benchmark", file, None)
    store.log.commit(lambda _: RollupEntry(store.now(), Level.H1, START_MS, (shard,)))


def measure_day(folder: Path, sizes: Sizes) -> None:
    """Print (d)."""
    store = open_store(folder / "day", START_MS + 2 * DAY_MS)
    write_day(store, sizes)
    metric = Matcher("__name__", MatchKind.EQUAL, "metric_7")
    chosen = store.select([metric], START_MS, START_MS + DAY_MS).ids
    network = Matcher("network", MatchKind.REGEX, "net-1.*")
    with store.log.reading() as state:
        file = next(iter(state.rollups[Level.H1].values())).records
    assert file is not None
    path = folder / "day" / file.key
    connection = duckdb.connect(config={"threads": 2})
    sql = (
        f"SELECT * FROM read_parquet('{path}') WHERE series_id BETWEEN {chosen[0]} AND {chosen[-1]}"
    )
    by_name, by_label, everywhere, day, scan = median_of(
        sizes.rounds,
        lambda: store.select([metric], START_MS, START_MS + DAY_MS),
        lambda: store.select([metric, network], START_MS, START_MS + DAY_MS),
        lambda: store.select([network], START_MS, START_MS + DAY_MS),
        lambda: store.records(chosen, Level.H1, START_MS, START_MS + DAY_MS),
        lambda: connection.sql(sql).fetchnumpy(),
    )
    found = store.records(chosen, Level.H1, START_MS, START_MS + DAY_MS)
    fresh = open_store(folder / "day", START_MS + 2 * DAY_MS)
    start = time.perf_counter()
    fresh.select([metric], START_MS, START_MS + DAY_MS)
    loading = time.perf_counter() - start
    print(
        f"(d) select among {sizes.agents * sizes.metrics} series: by name {by_name * 1e3:.1f} ms, "
        f"name and regex {by_label * 1e3:.1f} ms, regex alone {everywhere * 1e3:.0f} ms; the first "
        f"of a process {loading:.1f} s"
    )
    print(
        f"(d) one day of 1h of {len(chosen)} series, {len(found)} records: {day:.2f} s; DuckDB's "
        f"scan of the same columns {scan:.2f} s ({day / scan:.1f} x its time)"
    )
