"""A published day of a serving fleet, end to end: imported, rolled up to 1d, queried, plotted.

Usage: python benchmarks/gentd26.py [--quick] [--folder DIR]

Takes the eight CSV files of gentd26 (some 624,000 samples of a day; alibaba/clusterdata,
cluster-trace-v2026-GenAI) from DIR, from $STATEROOM_TRACES/gentd26 or from `shared/data/gentd26`
beside or above the checkout; without them it says so and measures nothing. One round makes a new
store, copies all files, builds every level, asks a figure's worth of queries and writes them as an
SVG. Peers do the same from the same files in the same run, in turn: DuckDB reads the CSV files into
Parquet, groups them into hours and asks them in SQL; VictoriaMetrics, where it is installed, is
given the samples as it takes them and is asked the same PromQL. Printed are seconds by the clock
and of processors (a busy machine stretches the first, not the second). The aim is 10 s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import duckdb
import numpy as np
import psutil
from _traces import find_traces

from fleet.metrics.csv_layout import GENTD26
from fleet.metrics.labels import METRIC_NAME
from fleet.metrics.levels import Level
from fleet.metrics.rollup_plan import find_dirty
from fleet.metrics.samples import SampleBatch
from fleet.promql.engine import PromqlEngine
from resources.metrics.csv_import import gentd26_source
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.part_files import PartFiles
from resources.metrics.pieces import EVER_MS, copy_samples
from resources.metrics.rolling import roll_up_partition
from resources.object_store.directory import DirectoryObjectStore
from tests.servers.victoria_metrics import MISSING, VictoriaMetrics, running_victoria_metrics

START_S, END_S = 1_662_854_400, 1_662_951_600
"""2022-09-11 00:00 to 2022-09-12 03:00 UTC: all of the day and a little around it."""
STEP_S = 3600
CONTRADICTED = 2e-3
"""Relative difference that lines which contradict one another may make."""
METRICS = [layout.metric for layout in GENTD26]
FIGURE = (
    "avg(avg_over_time({metric}[1h]))",
    "max(max_over_time({metric}[1h]))",
    "count(count_over_time({metric}[1h]))",
)
"""Lines of each metric's panel."""


class Line(NamedTuple):
    """One line of the figure."""

    title: str
    times_s: Sequence[float]
    values: Sequence[float]


class Taken(NamedTuple):
    """Seconds of the steps of one round, by the clock, and of processors all together."""

    imported: float
    rolled_up: float
    queried: float
    plotted: float
    cpu: float

    @property
    def whole(self) -> float:
        """All of it by the clock."""
        return sum(self[:4])


def timed(steps: Sequence[Callable[[], Any]]) -> Taken:
    """Seconds of each step."""
    taken, before = [], cpu_s()
    for step in steps:
        begun = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begun)
    return Taken(*taken, cpu=cpu_s() - before)


def cpu_s() -> float:
    """Processor time of this process and of the servers that it started."""
    own = psutil.Process()
    times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


class Ours:
    """The product's way, in a new folder."""

    def __init__(self, source: Path, folder: Path) -> None:
        """An empty store on a directory, whose clock stands two days behind the data."""
        objects = DirectoryObjectStore(folder / "store")
        now = datetime.fromtimestamp(END_S + 2 * 86_400, UTC)
        files = PartFiles(objects, folder / "store")
        self.store = ObjectMetricStore(objects, files, shards=1, now=lambda: now)
        self.source, self.folder = source, folder
        self.samples, self.lines = 0, [Line("", (), ())]
        self.levels: set[str] = set()

    def import_all(self) -> None:
        """All files, checked, into the store."""
        pieces = copy_samples(gentd26_source(self.source), self.store, *EVER_MS)
        self.samples = sum(piece.samples for piece in pieces)

    def roll_up(self) -> None:
        """Every level up to 1d."""
        for level in Level:
            with self.store.log.reading() as state:
                dirty = find_dirty(state, level, self.store.open_from_ms())
            for one in dirty:
                roll_up_partition(self.store, level, one.partition_ms)

    def query(self) -> None:
        """The lines of the figure."""
        engine, self.lines = PromqlEngine(self.store), []
        for metric in METRICS:
            for query in (one.format(metric=metric) for one in FIGURE):
                answer = engine.range(query, (START_S + STEP_S) * 1000, END_S * 1000, STEP_S * 1000)
                self.levels |= {use.level_text for use in answer.uses}
                there = answer.present[0]
                times = (answer.times_ms[there] / 1000).tolist()
                self.lines.append(Line(query, times, answer.values[0][there].tolist()))

    def plot(self) -> None:
        """All panels in one file."""
        (self.folder / "day.svg").write_text(svg(self.lines))


def svg(lines: Sequence[Line]) -> str:
    """A panel for each line, four in a row."""
    wide, high = 360, 160
    parts = []
    for at, line in enumerate(lines):
        x, y = at % 4 * wide, at // 4 * high
        values = np.array(line.values)
        low, high_value = float(values.min()), float(values.max())
        rise = (high - 50) / ((high_value - low) or 1.0)
        points = " ".join(
            f"{x + (t - START_S) / (END_S - START_S) * (wide - 20) + 10:.1f},"
            f"{y + high - 15 - (value - low) * rise:.1f}"
            for t, value in zip(line.times_s, line.values, strict=True)
        )
        parts.append(f'<text x="{x + 10}" y="{y + 20}" font-size="9">{line.title}</text>')
        parts.append(f'<polyline points="{points}" fill="none" stroke="#204080"/>')
    size = f'width="{4 * wide}" height="{(len(lines) + 3) // 4 * high}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>\n'


class DuckDbWay:
    """The same by DuckDB: CSV to Parquet, hours by GROUP BY, the lines in SQL; nothing checked."""

    def __init__(self, source: Path, folder: Path) -> None:
        """An empty database in memory."""
        self.source, self.folder = source, folder
        self.connection = duckdb.connect(config={"threads": os.cpu_count() or 1})
        self.lines: list[Line] = []

    def import_all(self) -> None:
        """All files into one Parquet file, ordered as ours are."""
        selects = " UNION ALL ".join(
            f"SELECT '{layout.metric}' AS metric, hash(columns) AS series, "
            f"CAST(timestamp_anon * 1000 AS BIGINT) AS ts, value FROM (SELECT timestamp_anon, "
            f"value, {_columns(layout)} AS columns FROM "
            f"read_csv('{self.source / layout.file}', header = true))"
            for layout in GENTD26
        )
        into = self.folder / "duck.parquet"
        self.connection.execute(
            f"COPY (SELECT * FROM ({selects}) ORDER BY metric, series, ts) TO '{into}' "
            "(FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION V2)"
        )

    def roll_up(self) -> None:
        """Count, sum and extremes of each series and hour."""
        self.connection.execute(
            f"CREATE TABLE hours AS SELECT metric, series, (ts + 3599999) // 3600000 AS hour, "
            f"count(*) AS n, sum(value) AS total, min(value) AS low, max(value) AS high FROM "
            f"read_parquet('{self.folder / 'duck.parquet'}') GROUP BY ALL"
        )

    def query(self) -> None:
        """The lines of the figure."""
        self.lines = []
        for metric in METRICS:
            for what in ("avg(total / n)", "max(high)", "count(*)"):
                rows = self.connection.execute(
                    f"SELECT hour * 3600, {what} FROM hours WHERE metric = ? "
                    "GROUP BY hour ORDER BY hour",
                    [metric],
                ).fetchall()
                times, values = zip(*rows, strict=True)
                self.lines.append(Line(f"{metric} {what}", times, values))

    def plot(self) -> None:
        """All panels in one file."""
        (self.folder / "duck.svg").write_text(svg(self.lines))


def _columns(layout: Any) -> str:
    names = [column for column, _ in layout.label_columns]
    return "concat_ws('|', " + ", ".join(f"coalesce({name}, '')" for name in names) + ")"


class VictoriaWay:
    """The same by VictoriaMetrics: samples over HTTP; it keeps no rollups."""

    def __init__(self, server: VictoriaMetrics, batches: Sequence[SampleBatch], into: Path) -> None:
        """Samples that were read before: reading CSV is not its work."""
        self.server, self.batches, self.into = server, batches, into
        self.lines: list[Line] = []

    def import_all(self) -> None:
        """All samples, a document for each series."""
        for batch in self.batches:
            starts = np.flatnonzero(np.diff(batch.series_ids, prepend=-1))
            documents = []
            for start, end in zip(starts, [*starts[1:], len(batch)], strict=True):
                labels = dict(batch.series[int(batch.series_ids[start])].labels)
                documents.append(
                    {
                        "metric": {METRIC_NAME: labels.pop(METRIC_NAME), **labels},
                        "values": batch.values[start:end].tolist(),
                        "timestamps": batch.ts_ms[start:end].tolist(),
                    }
                )
            self.server.import_lines(documents)

    def roll_up(self) -> None:
        """Nothing."""

    def query(self) -> None:
        """The lines of the figure."""
        self.lines = []
        for metric in METRICS:
            for query in (one.format(metric=metric) for one in FIGURE):
                parameters = {"query": query, "step": str(STEP_S)}
                parameters |= {"start": str(START_S + STEP_S), "end": str(END_S)}
                (row,) = self.server.get("/api/v1/query_range", parameters)["result"]
                times, values = zip(*row["values"], strict=True)
                self.lines.append(Line(query, times, [float(value) for value in values]))

    def plot(self) -> None:
        """All panels in one file."""
        self.into.write_text(svg(self.lines))


def compare(ours: Sequence[Line], theirs: Sequence[Line], name: str) -> None:
    """Stop where two ways tell another day.

    DuckDB counts the few lines that contradict an earlier one of their series and time.
    """
    for one, other in zip(ours, theirs, strict=True):
        mine, found = (dict(zip(each.times_s, each.values, strict=True)) for each in (one, other))
        assert mine.keys() == found.keys(), (name, one.title, len(mine), len(found))
        for at, value in mine.items():
            assert np.isclose(value, found[at], rtol=CONTRADICTED), (
                name,
                one.title,
                at,
                value,
                found[at],
            )


def measured(ways: Sequence[Callable[[Path], Any]], rounds: int) -> tuple[list[Any], list[Taken]]:
    """The last state of each way, and medians of its steps, in turn; the first round is warm-up."""
    taken: list[list[Taken]] = [[] for _ in ways]
    last: list[Any] = [None for _ in ways]
    for _ in range(rounds + 1):
        for at, way in enumerate(ways):
            with tempfile.TemporaryDirectory() as folder:
                one = way(Path(folder))
                steps = (one.import_all, one.roll_up, one.query, one.plot)
                taken[at].append(timed(steps))
                last[at] = one
    medians = [
        Taken(*(statistics.median(column) for column in zip(*some[1:], strict=True)))
        for some in taken
    ]
    return last, medians


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round instead of three")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    source = options.folder or find_traces("gentd26")
    if source is None:
        print("skipped: no folder gentd26 (--folder, $STATEROOM_TRACES, shared/data/gentd26)")
        return
    batches = [piece.batch for piece in gentd26_source(source).read(*EVER_MS)]
    with running_victoria_metrics() as server:
        ways: list[Callable[[Path], Any]] = [
            lambda folder: Ours(source, folder),
            lambda folder: DuckDbWay(source, folder),
        ]
        names = ["ours", "DuckDB from CSV"]
        if server is None:
            print(f"VictoriaMetrics left out: {MISSING}")
        else:
            ways.append(lambda folder: VictoriaWay(server, batches, folder / "victoria.svg"))
            names.append("VictoriaMetrics, samples given")
        last, medians = measured(ways, 1 if options.quick else 3)
    compare(last[0].lines, last[1].lines, names[1])
    print(
        f"{last[0].samples} samples of {len({i for b in batches for i in b.series})} series, "
        f"{len(last[0].lines)} lines of {len(last[0].lines[0].values)} points, answered from "
        f"{', '.join(sorted(last[0].levels))}; DuckDB's are the same within {CONTRADICTED:g}"
    )
    for name, one in zip(names, medians, strict=True):
        by_clock, in_cpu = medians[0].whole / one.whole, medians[0].cpu / one.cpu
        print(
            f"{name}: {one.whole:.2f} s, {one.cpu:.2f} s CPU (ours takes {by_clock:.1f} x by the "
            f"clock, {in_cpu:.1f} x in CPU): import {one.imported:.2f}, rollups "
            f"{one.rolled_up:.2f}, {len(last[0].lines)} queries {one.queried:.2f}, plot "
            f"{one.plotted:.3f}"
        )


if __name__ == "__main__":
    main()
