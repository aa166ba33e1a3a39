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
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import duckdb
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from fleet.metrics.histogram_columns import HistogramSamples, no_histogram_samples
from fleet.metrics.histogram_records import HistogramRecords
from fleet.metrics.labels import Labels, Matcher, labels_of, labels_text, metric_of, series_id
from fleet.metrics.levels import Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.rollup_plan import find_dirty
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from fleet.metrics.sketches import SketchColumns, concat_sketches
from fleet.ports.metric_store import MetricReader, SelectedSeries
from fleet.promql.engine import PromqlEngine
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.part_files import PartFiles
from resources.metrics.rolling import roll_up_partition
from resources.object_store.directory import DirectoryObjectStore
from tests.servers.prometheus import backfill, running_prometheus
from tests.servers.victoria_metrics import MISSING, running_victoria_metrics

HOUR = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR_MS = round(HOUR.timestamp() * 1000)
END_MS = HOUR_MS + 15 * 60_000
SAMPLES = 60
BOUNDS = ("0.1", "0.5", "1", "5", "+Inf")

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


Ask = Callable[[str, int | None], Any]
"""Asks a server a query: at the end, or in ten steps of so many milliseconds."""


@contextmanager
def prometheus(batch: SampleBatch) -> Iterator[Ask | None]:
    """Asks a real server that holds the same samples; None where none is installed."""
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as data:
        started = time.perf_counter()
        backfill(openmetrics(batch), Path(data))
        print(f"promtool made its blocks in {time.perf_counter() - started:.0f} s")
        flags = ("--query.max-samples=500000000",)
        with running_prometheus(Path(data), flags=flags) as server:

            def ask(query: str, step_ms: int | None = None) -> Any:
                if step_ms is None:
                    return server.get("/api/v1/query", {"query": query, "time": f"{END_MS / 1000}"})
                start = END_MS - 9 * step_ms
                parameters = {"start": f"{start / 1000}", "end": f"{END_MS / 1000}"}
                step = f"{step_ms / 1000}"
                return server.get(
                    "/api/v1/query_range", {"query": query, "step": step, **parameters}
                )

            yield ask


@contextmanager
def victoria(batch: SampleBatch) -> Iterator[Ask | None]:
    """The same of VictoriaMetrics; None, and the reason said, where none is installed."""
    with running_victoria_metrics() as server:
        if server is None:
            print(f"VictoriaMetrics left out: {MISSING}")
            yield None
            return
        started = time.perf_counter()
        for first in range(0, len(batch), 5000 * SAMPLES):
            server.import_lines(documents(batch, first, min(first + 5000 * SAMPLES, len(batch))))
        taken = time.perf_counter() - started
        size = server.size_bytes() / len(batch)
        print(f"VictoriaMetrics took its samples in {taken:.0f} s, {size:.2f} B/sample on disk")

        def ask(query: str, step_ms: int | None = None) -> Any:
            if step_ms is None:
                return server.get("/api/v1/query", {"query": query, "time": f"{END_MS / 1000}"})
            parameters = {"start": f"{(END_MS - 9 * step_ms) / 1000}", "end": f"{END_MS / 1000}"}
            step = f"{step_ms / 1000}"
            return server.get("/api/v1/query_range", {"query": query, "step": step, **parameters})

        yield ask


def documents(batch: SampleBatch, first: int, stop: int) -> Iterator[dict[str, Any]]:
    """Series as VictoriaMetrics imports them."""
    for n in range(first, stop, SAMPLES):
        part = slice(n, n + SAMPLES)
        yield {
            "metric": dict(batch.series[int(batch.series_ids[n])].labels),
            "values": batch.values[part].tolist(),
            "timestamps": batch.ts_ms[part].tolist(),
        }


def openmetrics(batch: SampleBatch) -> str:
    """The samples as promtool reads them."""
    parts = []
    texts = {one: labels_text(info.labels) for one, info in batch.series.items()}
    times = [f"{ts / 1000:.3f}" for ts in batch.ts_ms[:SAMPLES]]
    rows: dict[str, list[str]] = {}
    for n in range(0, len(batch), SAMPLES):
        identity = int(batch.series_ids[n])
        values = batch.values[n : n + SAMPLES].tolist()
        text = texts[identity]
        lines = [f"{text} {value:g} {ts}" for value, ts in zip(values, times, strict=True)]
        rows.setdefault(metric_of(batch.series[identity].labels), []).extend(lines)
    for name, lines in rows.items():
        parts += [f"# TYPE {name} unknown", *lines]
    return "\n".join([*parts, "# EOF", ""])


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
