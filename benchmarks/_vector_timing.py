"""Figures of the benchmark of vectors: printed, kept, and taken as medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

K = 10
SINGLES = 1000

figures: dict[str, Any] = {}


def say(name: str, value: float, text: str) -> None:
    """Print a figure and keep it."""
    figures[name] = value
    print(f"  {text}", flush=True)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def per_second(search: Callable[[Any], object], queries: Any, rounds: int) -> float:
    """Queries a second, asked one by one."""
    singles = [np.ascontiguousarray(query[None]) for query in queries[:SINGLES]]
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for query in singles:
            search(query)
        times.append(time.perf_counter() - began)
    return len(singles) / statistics.median(times)
