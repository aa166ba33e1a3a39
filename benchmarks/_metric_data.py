"""What the parts of `metrics.py` share: sizes, series, medians, a store."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.part_files import PartFiles
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


def open_store(folder: Path, now_ms: int) -> ObjectMetricStore:
    """A store of one shard."""
    objects = DirectoryObjectStore(folder)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return ObjectMetricStore(objects, PartFiles(objects, root=folder), shards=1, now=lambda: now)
