"""How fast samples become records, and how fast a day of them is read, against DuckDB's own scan.

Usage: python benchmarks/metrics.py [--quick | --full] [--folder DIR]

Prints, each with the ratio to DuckDB scanning the same files in the same run (medians, in turn):
(a) raw samples to 5m records, read and write included, and the memory of the process that does it;
(b) the same through the store: 1m from samples, 5m from 1m, 1h from 5m;
(c) bytes of a sample and of a record at each level;
(d) choosing one metric's series among all, and reading one day of their 1h records;
(e) `append` of a batch of one scrape;
(f) native histograms of 20 buckets, encoded and rolled up to 5m, beside the same observations as 22
classic series.
`--full` takes 100 M samples and 2 M series (15 minutes, 3 GB of disk), `--quick` 1 M and 40,000.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import duckdb
import numpy as np
import pyarrow.parquet as pq

from fleet.metrics.histogram_columns import KEY_OFFSET, Histograms, HistogramSamples
from fleet.metrics.histogram_records import roll_up_histograms
from fleet.metrics.labels import Matcher, MatchKind, labels_of, series_id
from fleet.metrics.levels import DAY_MS, HOUR_MS, Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.rolling_up import roll_up
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from fleet.metrics.store_log import RollupEntry, RollupFile, RollupShard
from resources.metrics.appending import nonce
from resources.metrics.histogram_parts import (
    encode_histogram_records,
    encode_histograms,
    read_histograms,
)
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.part_files import PartFiles
from resources.metrics.raw_parts import (
    Samples,
    SampleWriter,
    encode_samples,
    open_samples,
    read_merged,
)
from resources.metrics.record_parts import RecordWriter, open_records
from resources.metrics.rolling import roll_up_partition
from resources.object_store.directory import DirectoryObjectStore

START_MS = 1_772_323_200_000
"""2026-03-01 00:00 UTC."""
STEP_MS = 15_000


class Sizes(NamedTuple):
    """How much is measured."""

    samples: int
    agents: int
    metrics: int
    rounds: int


SIZES = {
    "quick": Sizes(1_000_000, 2_000, 20, 3),
    "normal": Sizes(10_000_000, 10_000, 20, 5),
    "full": Sizes(100_000_000, 100_000, 20, 3),
}


def median_of(rounds: int, *calls: Callable[[], Any]) -> list[float]:
    """Median seconds of each call, taken in turn; the first round is not counted."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for into, call in zip(times, calls, strict=True):
            start = time.perf_counter()
            call()
            into.append(time.perf_counter() - start)
    return [statistics.median(each[1:]) for each in times]


def cpu_of(call: Callable[[], Any]) -> float:
    """Seconds of all cores that a call takes: says more than the clock on a busy machine."""
    start = time.process_time()
    call()
    return time.process_time() - start


def series_values(rng: np.random.Generator, series: int, count: int) -> Any:
    """Half counters, some with a reset, half gauges of two decimals; a row for each series."""
    values = np.round(50 + np.cumsum(rng.normal(0, 0.5, (series, count)), axis=1), 2)
    counters = np.cumsum(rng.integers(0, 200, (series // 2, count)), axis=1).astype(np.float64)
    counters[::25, count // 2 :] -= counters[::25, count // 2 : count // 2 + 1]
    values[: series // 2] = counters
    return values


def write_raw(path: Path, samples: int, per_series: int) -> int:
    """A raw part; returns its bytes."""
    rng = np.random.default_rng(1)
    ts_ms = START_MS + STEP_MS * np.arange(1, per_series + 1) + 3
    writer = SampleWriter()
    for first in range(0, samples // per_series, 1000):
        ids = np.arange(first, min(first + 1000, samples // per_series))
        writer.write(
            Samples(
                np.repeat(ids << 20, per_series),
                np.tile(ts_ms, len(ids)),
                series_values(rng, len(ids), per_series).ravel(),
            )
        )
    data = writer.finish()
    path.write_bytes(data)
    return len(data)


def raw_to_records(path: Path, into: Path, level: Level) -> int:
    """Read a raw part, roll it up, write the records; returns how many."""
    writer = RecordWriter(level)
    for piece in read_merged([open_samples(pq.ParquetFile(path, memory_map=True))]):
        writer.write(roll_up(*piece.samples, level))
    into.write_bytes(writer.finish())
    return writer.rows


def measure_roll_up(folder: Path, sizes: Sizes) -> None:
    """Print (a)."""
    raw, into = folder / "raw.parquet", folder / "5m.parquet"
    size = write_raw(raw, sizes.samples, 5760 if sizes.samples > 2_000_000 else 1440)
    sql = (
        f"SELECT series_id, (ts + 299999) // 300000 AS b, count(*), sum(value), min(value), "
        f"max(value) FROM read_parquet('{raw}') GROUP BY ALL"
    )
    connection = duckdb.connect(config={"threads": 2})
    ours, theirs = median_of(
        min(3, sizes.rounds),
        lambda: raw_to_records(raw, into, Level.M5),
        lambda: connection.sql(sql).fetchnumpy(),
    )
    cpu = cpu_of(lambda: raw_to_records(raw, into, Level.M5))
    rows = pq.read_metadata(into).num_rows
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from benchmarks.metrics import *; "
        "raw_to_records(Path(sys.argv[2]), Path(sys.argv[3]), Level.M5); print(peak_mib())"
    )
    root = str(Path(__file__).resolve().parent.parent)
    peak = subprocess.run(
        [sys.executable, "-c", code, root, str(raw), str(into)],
        check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root},
    ).stdout  # fmt: skip
    print(
        f"(a) raw -> 5m: {sizes.samples / ours / 1e6:.1f} M samples/s with read and write "
        f"({sizes.samples / cpu / 1e6:.1f} M per second of one core), peak "
        f"{float(peak):.0f} MiB; DuckDB's GROUP BY n, sum, min, max without write "
        f"{sizes.samples / theirs / 1e6:.1f} M/s ({ours / theirs:.1f} x its time)"
    )
    print(
        f"(c) {size / sizes.samples:.2f} B/sample raw; 5m: {into.stat().st_size / rows:.1f} B/row, "
        f"{into.stat().st_size / sizes.samples:.2f} B/sample"
    )


def peak_mib() -> float:
    """Largest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def open_store(folder: Path, now_ms: int) -> ObjectMetricStore:
    """A store of one shard."""
    objects = DirectoryObjectStore(folder)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return ObjectMetricStore(objects, PartFiles(objects, root=folder), shards=1, now=lambda: now)


def measure_levels(folder: Path, sizes: Sizes) -> None:
    """Print (b) and (e): 24 hours of some series through the store."""
    count = max(200, sizes.samples // 5760)
    store = open_store(folder / "store", START_MS + 2 * DAY_MS)
    infos = {}
    for which in range(count):
        labels = labels_of("load", {"agent": f"agent-{which:06d}"})
        infos[series_id(labels)] = SeriesInfo(labels, MetricType.GAUGE, interval_ms=STEP_MS)
    ids = np.array(sorted(infos))
    rng = np.random.default_rng(2)
    appended = []
    for hour in range(24):
        ts_ms = START_MS + hour * HOUR_MS + STEP_MS * np.arange(1, 241)
        values = series_values(rng, count, 240).ravel()
        batch = SampleBatch(np.repeat(ids, 240), np.tile(ts_ms, count), values, infos)
        start = time.perf_counter()
        store.append(batch, f"hour-{hour}")
        appended.append(time.perf_counter() - start)
    samples = 240 * 24 * count
    print(
        f"(e) append: {240 * count / statistics.median(appended) / 1e6:.1f} M samples/s by the hour"
    )
    times = {}
    for level in Level:
        start = time.perf_counter()
        made = [
            roll_up_partition(store, level, START_MS + at)
            for at in range(0, DAY_MS, level.partition_ms)
        ]
        times[level] = time.perf_counter() - start, sum(one.rows for one in made)
        size = sum(one.size_bytes for one in made)
        inputs = samples if level == Level.M1 else times[Level(LOWER_OF[level])][1]
        noun = "samples" if level == Level.M1 else "records"
        rate = inputs / times[level][0]
        print(
            f"(b) {level.text}: {rate / 1e6:.2f} M {noun}/s in, {size / times[level][1]:.1f} B/row"
        )


LOWER_OF = {Level.M5: Level.M1, Level.H1: Level.M5, Level.D1: Level.H1}


def measure_merge(folder: Path, sizes: Sizes) -> None:
    """Print the merge of a level by itself, against DuckDB's scan of all its columns."""
    from fleet.metrics.rolling_up import merge

    path = folder / "5m.parquet"
    rows = pq.read_metadata(path).num_rows
    connection = duckdb.connect(config={"threads": 2})
    names = [name for name in pq.read_schema(path).names if name != "series_id"]
    sums = ", ".join(f'sum("{name}")' for name in names)
    bucket = '(series_id, ("end" + 3599999) // 3600000)'
    sql = f"SELECT {bucket}, {sums} FROM read_parquet('{path}') GROUP BY ALL"

    def ours() -> None:
        writer = RecordWriter(Level.H1)
        reader = open_records(pq.ParquetFile(path, memory_map=True), Level.M5)
        from resources.metrics.rolling import RECORDS_AT_ONCE
        from resources.metrics.series_ranges import cuts

        above = -(2**63)
        for upto in cuts([reader], RECORDS_AT_ONCE):
            writer.write(merge(RollupColumns(*reader.read(above, upto)), Level.M5, Level.H1))
            above = upto
        writer.finish()

    took, scan = median_of(sizes.rounds, ours, lambda: connection.sql(sql).fetchnumpy())
    print(
        f"(b) merge 5m -> 1h: {rows / took / 1e6:.1f} M rows/s with read and write "
        f"({rows / cpu_of(ours) / 1e6:.1f} M per second of one core); DuckDB's "
        f"GROUP BY of sums without write {rows / scan / 1e6:.1f} M/s ({took / scan:.1f} x its time)"
    )


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
                np.zeros(count, np.int64),
                np.full(count, 200),
                mean,
                rng.uniform(0, 100, count),
            )
        )
    data = writer.finish()
    import hashlib

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


def measure_histograms(sizes: Sizes) -> None:
    """Print (f): an hour of counters, a sample each 15 s."""
    count, steps, buckets = max(50, sizes.samples // 20_000), 240, 20
    rng = np.random.default_rng(4)
    grown = np.cumsum(rng.poisson(2, (count, steps, buckets)), axis=1).reshape(-1, buckets)
    seen, rows = grown.sum(axis=1).astype(np.float64), count * steps
    ids = np.repeat(np.arange(count) << 20, steps)
    ts_ms = np.tile(START_MS + STEP_MS * np.arange(1, steps + 1), count)
    found = HistogramSamples(
        ids, ts_ms,
        Histograms(
            np.full(rows, 3), np.full(rows, 2.0**-128), np.zeros(rows), seen, seen * 1.5,
            buckets * np.arange(rows + 1), np.tile(KEY_OFFSET + np.arange(buckets), rows),
            np.maximum(grown, 1).astype(np.float64).ravel(),
        ),
    )  # fmt: skip
    columns = np.column_stack([np.cumsum(grown, axis=1), seen, seen * 1.5])
    series = columns.shape[1]
    flat = columns.reshape(count, steps, series).transpose(0, 2, 1).ravel().astype(np.float64)
    classic = Samples(
        np.repeat(np.arange(count * series) << 10, steps),
        np.tile(ts_ms[:steps], count * series),
        flat,
    )

    def native() -> int:
        read = read_histograms(pq.ParquetFile(io.BytesIO(encode_histograms(found))))
        return len(encode_histogram_records(roll_up_histograms(read, Level.M5)))

    def as_series() -> int:
        data = encode_samples(classic)
        writer = RecordWriter(Level.M5)
        for piece in read_merged([open_samples(pq.ParquetFile(io.BytesIO(data)))]):
            writer.write(roll_up(*piece.samples, Level.M5))
        return len(writer.finish())

    ours, theirs = median_of(min(3, sizes.rounds), native, as_series)
    cpu, cpu_series = cpu_of(native), cpu_of(as_series)
    size, size_series = len(encode_histograms(found)), len(encode_samples(classic))
    print(
        f"(f) {rows} native histograms of {buckets} buckets, written, read and rolled up to 5m: "
        f"{rows / ours / 1e3:.0f} k/s ({rows / cpu / 1e3:.0f} k per second of one core), "
        f"{size / rows:.0f} B each; as {series} classic series {theirs / ours:.1f} x the time "
        f"({cpu_series / cpu:.1f} x the CPU), {size_series / size:.1f} x the bytes; records of 5m "
        f"{native() / (count * 12):.0f} B against {as_series() / (count * 12):.0f} B"
    )


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    sizes = SIZES["quick" if chosen.quick else "full" if chosen.full else "normal"]
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        print(json.dumps(sizes._asdict()))
        measure_roll_up(folder, sizes)
        measure_merge(folder, sizes)
        measure_levels(folder, sizes)
        measure_day(folder, sizes)
        measure_histograms(sizes)


if __name__ == "__main__":
    main()
