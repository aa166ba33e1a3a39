"""How fast the lake is, against pyarrow and DuckDB on the same bytes without it.

Usage: python benchmarks/lake.py [--quick] [--folder DIR]

Prints, for 100,000 agents of 20 columns (medians, rounds alternate between the lake and the peer):
(a) records to Arrow and back;
(b) a write, against `pyarrow.parquet.write_table` + fsync of the same rows and settings;
(c) reading the newest object, against `read_table` of the same file, and what verifying costs;
(d) SQL on it, against DuckDB's own `read_parquet` of the same file in a connection that is open;
(e) other compression levels and row groups;
(f) listing 10,080 objects (a day of minute ticks of 7 partitions), the newest, and SQL on history;
(g) merging a day of one partition.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from fleet.inventory import Agent, AgentPhase
from resources.lake import parquet_codec as codec
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from resources.lake.records import from_table, to_table

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SQL = "SELECT region, phase, count(*) AS n, sum(rss_bytes) AS rss FROM {} GROUP BY ALL ORDER BY ALL"


def agents(count: int) -> list[Agent]:
    """A fleet whose columns vary as a real one's do."""
    phases = list(AgentPhase)
    return [
        Agent(
            agent_id=f"eu-central-1-worker-{n:06d}",
            network_id=f"net-{n % 50}",
            workload=f"workload-{n % 12}",
            node_id=f"node-{n % 10_000:05d}",
            region=f"region-{n % 7}",
            epoch=1 + n % 3,
            phase=phases[1 if n % 20 else n // 20 % len(phases)],
            cpu_milli=10,
            memory_bytes=16 << 20,
            bandwidth_bps=0,
            gpu_milli=0,
            gpu_memory_bytes=0,
            pid=1000 + n * 7919 % 4_000_000 if n % 20 else None,
            started_at=NOON - timedelta(seconds=n * 7919 % 900_000),
            heartbeat_at=NOON + timedelta(microseconds=n * 7919 % 1_000_000),
            restarts=n % 100 // 98,
            cpu_percent=round(n * 7919 % 1000 / 1000, 2) if n % 20 else None,
            rss_bytes=(9 << 20) + n * 7919 % 100_000 * 4096 if n % 20 else None,
            reason="first placement of a declared agent",
        )
        for n in range(count)
    ]


def median_of(rounds: int, *calls: Callable[[int], Any]) -> list[float]:
    """Median seconds of each call, taken in turn; the first round is not counted."""
    times: list[list[float]] = [[] for _ in calls]
    for round_ in range(rounds + 1):
        for into, call in zip(times, calls, strict=True):
            start = time.perf_counter()
            call(round_)
            into.append(time.perf_counter() - start)
    return [statistics.median(each[1:]) for each in times]


def raw_write(
    path: Path, rows: pa.Table, level: int = codec.COMPRESSION_LEVEL, group: int = 1 << 17
) -> None:
    """What pyarrow needs to put the same rows on disk durably."""
    with path.open("wb") as file:
        pq.write_table(
            rows, file, compression="zstd", compression_level=level, row_group_size=group
        )
        file.flush()
        os.fsync(file.fileno())


def timed_raw(path: Path, rows: pa.Table) -> float:
    """Seconds of one raw write."""
    start = time.perf_counter()
    raw_write(path, rows)
    return time.perf_counter() - start


def measure_records(fleet: list[Agent], rounds: int) -> pa.Table:
    """Print (a)."""
    table = to_table(fleet, Agent)
    there, back, building = median_of(
        rounds,
        lambda _: to_table(fleet, Agent),
        lambda _: from_table(table, Agent),
        lambda _: [Agent(*each) for each in fleet],
    )
    print(
        f"(a) records: to Arrow {there * 1e3:.0f} ms, back {back * 1e3:.0f} ms "
        f"({back / building:.1f} x the time of only building {len(fleet)} tuples)"
    )
    return table


def measure_write(folder: Path, rows: pa.Table, rounds: int) -> None:
    """Print (b)."""
    lake = ParquetLake(DirectoryStore(folder / "write"))
    stamped = codec.stamp_rows(rows, "eu", NOON)
    ours, raw = median_of(
        rounds,
        lambda n: lake.write("agents", "eu", rows, NOON + n * MINUTE),
        lambda n: raw_write(folder / f"raw-{n}.parquet", stamped),
    )
    size = lake.objects("agents")[-1].size_bytes
    print(
        f"(b) write: {ours * 1e3:.0f} ms, {rows.num_rows / ours / 1e6:.2f} M rows/s, "
        f"{rows.nbytes / ours / 1e6:.0f} MB/s of Arrow, {size / ours / 1e6:.0f} MB/s of file "
        f"({size / 1e6:.2f} MB); raw {raw * 1e3:.0f} ms, ratio {raw / ours:.2f}"
    )


def measure_read(folder: Path, rows: pa.Table, rounds: int) -> None:
    """Print (c)."""
    lake = ParquetLake(DirectoryStore(folder / "read"))
    found = lake.write("agents", "eu", rows, NOON)
    path = str(folder / "read" / "objects" / found.key)
    fresh = [DirectoryStore(folder / "read") for _ in range(rounds + 1)]
    warm, cold, raw, verify = median_of(
        rounds,
        lambda _: lake.read_latest("agents", "eu"),
        lambda n: ParquetLake(fresh[n]).read_latest("agents", "eu"),
        lambda _: pq.read_table(path),
        lambda _: DirectoryStore(folder / "read").fetch(found.key, found.sha256),
    )
    print(
        f"(c) read_latest: {warm * 1e3:.1f} ms verified before, {cold * 1e3:.1f} ms verified now "
        f"(the checksum alone {verify * 1e3:.1f} ms); raw {raw * 1e3:.1f} ms, "
        f"ratio {raw / warm:.2f} and {raw / cold:.2f}"
    )


def measure_query(folder: Path, rounds: int) -> None:
    """Print (d)."""
    lake = ParquetLake(DirectoryStore(folder / "read"))
    (found,) = lake.objects("agents")
    path = folder / "read" / "objects" / found.key
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        sources = f"read_parquet('{path}')"

        def fresh(_: int) -> Any:
            with duckdb.connect() as new:
                return new.sql(SQL.format(sources)).to_arrow_table()

        ours, raw, opened = median_of(
            rounds,
            lambda _: lake.query(SQL.format("agents")),
            lambda _: connection.sql(SQL.format(sources)).to_arrow_table(),
            fresh,
        )
    print(
        f"(d) GROUP BY on {found.rows} rows: {ours * 1e3:.0f} ms; DuckDB on the file "
        f"{raw * 1e3:.0f} ms, with a new connection {opened * 1e3:.0f} ms, "
        f"ratio {raw / ours:.2f} and {opened / ours:.2f}"
    )


def measure_settings(folder: Path, rows: pa.Table, rounds: int) -> None:
    """Print (e)."""
    stamped = codec.stamp_rows(rows, "eu", NOON)
    path = folder / "setting.parquet"
    for level, group in [(1, 1 << 17), (3, 1 << 17), (6, 1 << 17), (1, 1 << 15), (1, 1 << 20)]:
        write, read = median_of(
            rounds,
            lambda _, level=level, group=group: raw_write(path, stamped, level, group),
            lambda _: pq.read_table(path),
        )
        print(
            f"(e) zstd {level}, row groups of {group:7d}: write {write * 1e3:.0f} ms, "
            f"read {read * 1e3:.1f} ms, {path.stat().st_size / 1e6:.2f} MB"
        )


def measure_many(folder: Path, rows: pa.Table, ticks: int, rounds: int) -> None:
    """Print (f) and (g)."""
    lake = ParquetLake(DirectoryStore(folder / "many"))
    midnight = NOON.replace(hour=0)
    start = time.perf_counter()
    for partition in range(7):
        for tick in range(ticks):
            lake.write("nodes", f"region-{partition}", rows, midnight + tick * MINUTE)
    count = 7 * ticks
    each = (time.perf_counter() - start) / count
    raw = [timed_raw(folder / f"raw-{n}.parquet", rows) for n in range(30)]
    print(
        f"(f) {count} writes of {rows.num_rows} rows: {each * 1e3:.2f} ms each "
        f"(raw {statistics.median(raw) * 1e3:.2f} ms, ratio {statistics.median(raw) / each:.2f})"
    )
    hour = "tick >= '2026-03-01T03:00:00Z' AND tick < '2026-03-01T04:00:00Z'"
    sizes = "SELECT count(*) AS n, sum(rss_bytes) AS rss FROM nodes_history"
    listing, walk, newest, sql_newest, sql_hour, sql_day = median_of(
        rounds,
        lambda _: lake.objects("nodes"),
        lambda _: [
            os.stat(f"{at}/{name}")  # noqa: PTH116  the raw limit
            for at, _, names in os.walk(folder / "many")
            for name in names
        ],
        lambda _: lake.read_latest("nodes", "region-3"),
        lambda _: lake.query(sizes.replace("_history", "")),
        lambda _: lake.query(f"{sizes} WHERE {hour}"),
        lambda _: lake.query(sizes),
    )
    print(
        f"(f) with {count} objects: list all {listing * 1e3:.0f} ms (os.walk and stat "
        f"{walk * 1e3:.0f} ms, ratio {walk / listing:.2f}), newest of a partition "
        f"{newest * 1e3:.1f} ms, SQL on the newest {sql_newest * 1e3:.0f} ms, on an hour of "
        f"history {sql_hour * 1e3:.0f} ms, on all {sql_day * 1e3:.0f} ms"
    )
    start = time.perf_counter()
    merged = lake.compact("nodes", "region-0", midnight)
    assert merged is not None
    took = time.perf_counter() - start
    print(
        f"(g) merge of {ticks} ticks, {merged.rows} rows: {took:.2f} s, "
        f"{merged.rows / took / 1e6:.2f} M rows/s, into {merged.size_bytes / 1e6:.2f} MB"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and ticks")
    parser.add_argument("--folder", type=Path, default=None, help="where to write (a temporary)")
    options = parser.parse_args()
    rounds, ticks = (3, 60) if options.quick else (9, 1440)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        fleet = agents(100_000)
        table = measure_records(fleet, rounds)
        measure_write(folder, table, rounds)
        measure_read(folder, table, rounds)
        measure_query(folder, rounds)
        measure_settings(folder, table, 3 if options.quick else 5)
        measure_many(folder, to_table(fleet[:1430], Agent), ticks, 3)


if __name__ == "__main__":
    main()
