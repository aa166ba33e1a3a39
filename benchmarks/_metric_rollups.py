"""Parts (a), (b), (c) and (e) of `metrics.py`: samples to records, level by level."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
from _metric_data import START_MS, STEP_MS, Sizes, cpu_of, median_of, open_store, series_values

from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.levels import DAY_MS, HOUR_MS, Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.rolling_up import merge, roll_up
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from resources.metrics.raw_parts import Samples, SampleWriter, open_samples, read_merged
from resources.metrics.record_parts import RecordWriter, open_records
from resources.metrics.rolling import RECORDS_AT_ONCE, roll_up_partition
from resources.metrics.series_ranges import cuts


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
        "import sys; sys.path[:0] = sys.argv[1:3]; from _metric_rollups import *; "
        "raw_to_records(Path(sys.argv[3]), Path(sys.argv[4]), Level.M5); print(peak_mib())"
    )
    here = Path(__file__).resolve().parent
    peak = subprocess.run(
        [sys.executable, "-c", code, str(here.parent), str(here), str(raw), str(into)],
        check=True, capture_output=True, text=True,
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
            f"(b) {level.text}: {rate / 1e6:.2f} M {noun}/s in, {size / times[level][1]:.2f} B/row"
        )


LOWER_OF = {Level.M5: Level.M1, Level.H1: Level.M5, Level.D1: Level.H1}


def measure_merge(folder: Path, sizes: Sizes) -> None:
    """Print the merge of a level by itself, against DuckDB's scan of all its columns."""
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
