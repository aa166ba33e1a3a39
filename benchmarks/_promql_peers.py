"""Servers that hold the same samples as the store: Prometheus and VictoriaMetrics."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _promql_data import END_MS, SAMPLES

from fleet.metrics.labels import labels_text, metric_of
from fleet.metrics.samples import SampleBatch
from tests.servers.prometheus import backfill, running_prometheus
from tests.servers.victoria_metrics import MISSING, running_victoria_metrics

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
