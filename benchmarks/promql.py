"""How fast PromQL is answered over 100,000 series, against DuckDB, Prometheus and VictoriaMetrics.

Usage: python benchmarks/promql.py [--quick] [--series N] [--no-prometheus] [--no-victoria]

A counter of as many series as asked for and a histogram of half as many, a sample every 15 s for
15 minutes, in the metric store (a directory), in memory, in Parquet for DuckDB, and where
`promtool` and `prometheus` are installed in a real server, and where `victoria-metrics` is
(Debian: apt install victoria-metrics) in one of these, too. Its answers are not compared: its rate
and increase do not extrapolate. Prints medians of rounds that alternate,
by the clock and of processor time (a busy machine stretches the first, not the second), and what
each takes of the second as a multiple of ours on the store. The answers are compared before
anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import duckdb
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from _promql_data import (
    END_MS,
    ArrayReader,
    batch_of,
    metric_store,
    parquet_of,
    roll_up_all,
    series_of,
)
from _promql_peers import Ask, prometheus, victoria

from fleet.ports.metric_store import MetricReader
from fleet.promql.engine import PromqlEngine

INSTANT = {
    "sum by (region) (rate)": "sum by (region) (rate(tasks_total[5m]))",
    "count": "count(tasks_total)",
    "topk(5, increase)": "topk(5, increase(tasks_total[10m]))",
    "avg by (node) (max_over_time)": "avg by (node) (max_over_time(tasks_total[10m]))",
    "histogram_quantile": "histogram_quantile(0.9, sum by (le, region) (rate(took_bucket[5m])))",
    "every series: rate": "rate(tasks_total[5m])",
}
RANGE = {
    "10 steps of sum by (region) (rate)": "sum by (region) (rate(tasks_total[5m]))",
    "10 steps of count": "count(tasks_total)",
}
SQL = """
WITH steps AS (
  SELECT series_id, ts, value,
    lag(value) OVER (PARTITION BY series_id ORDER BY ts) AS before
  FROM read_parquet('{samples}') WHERE metric = 0 AND ts > {start} AND ts <= {end}
), increases AS (
  SELECT series_id, arg_max(value, ts) - arg_min(value, ts)
    + sum(CASE WHEN value < before THEN before ELSE 0 END) AS increase
  FROM steps GROUP BY series_id
)
SELECT region, sum(increase) / 300 AS rate FROM increases JOIN labels USING (series_id)
GROUP BY region ORDER BY region
"""
PLAIN_SQL = """
SELECT count(*), sum(value), max(value) FROM read_parquet('{samples}')
WHERE metric = 0 AND ts > {start} AND ts <= {end}
"""


class Taken(NamedTuple):
    """Medians of one call, seconds."""

    wall_s: float
    cpu_s: float


def cpu_s() -> float:
    """Processor time of this process and of the servers that it started."""
    own = psutil.Process()
    times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def medians(rounds: int, calls: dict[str, Callable[[], Any]]) -> dict[str, Taken]:
    """What each call takes, in turn; the first round is not counted."""
    taken: dict[str, list[Taken]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            started, before = time.perf_counter(), cpu_s()
            call()
            if round_:
                taken[name].append(Taken(time.perf_counter() - started, cpu_s() - before))
    return {
        name: Taken(
            statistics.median(one.wall_s for one in some),
            statistics.median(one.cpu_s for one in some),
        )
        for name, some in taken.items()
    }


def say(title: str, found: dict[str, Taken]) -> None:
    """One line of figures, and each as a multiple of ours on the store."""
    base = found["store"].cpu_s or 0.01
    parts = [
        f"{name} {one.wall_s * 1000:.0f} ms, {one.cpu_s * 1000:.0f} ms CPU "
        f"({one.cpu_s / base:.2f}x)"
        for name, one in found.items()
    ]
    print(f"{title}: {'; '.join(parts)}", flush=True)


def compare(engine: PromqlEngine, ask: Ask) -> None:
    """Stop where an answer is not Prometheus'."""
    for title, query in INSTANT.items():
        theirs = {
            tuple(sorted(row["metric"].items())): float(row["value"][1])
            for row in ask(query, None)["result"]
        }
        answer = engine.answer(query, END_MS)
        ours = dict(zip(answer.labels, answer.values[:, 0].tolist(), strict=True))
        if not title.startswith("topk"):
            assert ours.keys() == theirs.keys(), title
            for labels, value in ours.items():
                assert np.isclose(value, theirs[labels], rtol=1e-9), (title, labels)
    print(f"{len(INSTANT)} answers equal Prometheus' within 1e-9")


def measure(readers: dict[str, MetricReader], samples: Path, labels: Path,
            peers: dict[str, Ask], rounds: int) -> None:  # fmt: skip
    """All queries on all of them."""
    engines = {name: PromqlEngine(reader) for name, reader in readers.items()}
    scan = duckdb.connect()
    scan.execute(f"CREATE TABLE labels AS FROM read_parquet('{labels}')")
    span = {"samples": samples, "start": END_MS - 300_000, "end": END_MS}
    for title, query in INSTANT.items():
        calls: dict[str, Callable[[], Any]] = {
            name: (lambda engine=engine, query=query: engine.answer(query, END_MS))
            for name, engine in engines.items()
        }
        if title.startswith("sum"):
            calls["DuckDB, increase in SQL"] = lambda: scan.execute(SQL.format(**span)).fetchall()
            calls["DuckDB, plain scan"] = lambda: scan.execute(PLAIN_SQL.format(**span)).fetchall()
        calls |= {
            name: (lambda ask=ask, query=query: ask(query, None)) for name, ask in peers.items()
        }
        say(title, medians(rounds, calls))
    for title, query in RANGE.items():
        calls = {
            name: (
                lambda engine=engine, query=query: engine.range(
                    query, END_MS - 9 * 60_000, END_MS, 60_000
                )
            )
            for name, engine in engines.items()
        }
        calls |= {
            name: (lambda ask=ask, query=query: ask(query, 60_000)) for name, ask in peers.items()
        }
        say(title, medians(rounds, calls))


def main() -> None:
    """Make the data, compare, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 series, 3 rounds")
    parser.add_argument("--series", type=int, help="how many")
    parser.add_argument("--no-prometheus", action="store_true", help="without this server")
    parser.add_argument("--no-victoria", action="store_true", help="without this server")
    options = parser.parse_args()
    count = options.series or (10_000 if options.quick else 100_000)
    rounds = 3 if options.quick else 7
    batch = batch_of(series_of(count))
    print(json.dumps({"series": len(batch.series), "samples": len(batch)}))
    server = nullcontext() if options.no_prometheus else prometheus(batch)
    other = nullcontext() if options.no_victoria else victoria(batch)
    with tempfile.TemporaryDirectory() as folder, server as ask, other as ask_victoria:
        store = metric_store(Path(folder) / "raw", batch)
        rolled = metric_store(Path(folder) / "rolled", batch)
        roll_up_all(rolled)
        samples = parquet_of(Path(folder), batch)
        labels = Path(folder) / "labels.parquet"
        regions = {one: dict(info.labels)["region"] for one, info in batch.series.items()}
        pq.write_table(
            pa.table({"series_id": list(regions), "region": list(regions.values())}), labels
        )
        readers: dict[str, MetricReader] = {
            "store": store,
            "rolled up": rolled,
            "in memory": ArrayReader(batch),
        }
        if ask is not None:
            compare(PromqlEngine(store), ask)
            compare(PromqlEngine(rolled), ask)
        asks = {"Prometheus": ask, "VictoriaMetrics": ask_victoria}
        peers = {name: one for name, one in asks.items() if one is not None}
        measure(readers, samples, labels, peers, rounds)


if __name__ == "__main__":
    main()
