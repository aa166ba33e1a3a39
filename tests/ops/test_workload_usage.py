"""Readings of agents come out of a real store the same, however the time is cut."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.inventory import AgentPhase
from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from fleet.metrics.store_facts import MetricsDeclaration
from fleet.ports.metric_store import MetricReader
from fleet.rightsizing.records import Allocation
from ops import workload_usage
from ops.workload_usage import allocations_of, cpu_step_min, read_usage
from resources.metrics.opening import open_metric_store
from tests.fleet.inventory_records import an_agent

NOW = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)
HOURS = 6
SIZES = [Allocation("net", "idle", 1, 100, 1), Allocation("net", "work", 2, 100, 1)]


@pytest.fixture
def reader(tmp_path: Path) -> MetricReader:
    """Two agents of `work`, of which one has moved, and one that nobody declared any more."""
    times = NOW_MS // 60_000 * 60_000 - np.arange(HOURS * 60, dtype=np.int64)[::-1] * 60_000
    half = len(times) // 2
    series: dict[int, SeriesInfo] = {}
    parts: list[tuple[int, Any, Any]] = []

    def put(agent: str, node: str, workload: str, rate: float, rows: slice) -> None:
        where = {"agent": agent, "network": "net", "workload": workload, "node": node}
        for name, kind, values in (
            ("agent_cpu_seconds_total", MetricType.COUNTER, np.arange(len(times)) * 60 * rate),
            ("agent_memory_usage_bytes", MetricType.GAUGE, np.full(len(times), rate * 1e9)),
        ):
            labels = labels_of(name, where)
            series[series_id(labels)] = SeriesInfo(labels, kind, interval_ms=60_000)
            parts.append((series_id(labels), times[rows], values[rows]))

    put("steady", "n1", "work", 0.5, slice(None))
    put("moved", "n1", "work", 0.25, slice(0, half))
    put("moved", "n2", "work", 0.25, slice(half, None))
    put("gone", "n1", "gone", 4.0, slice(None))
    store = open_metric_store(MetricsDeclaration(str(tmp_path), shards=1), lambda: NOW)
    store.append(
        SampleBatch(
            np.concatenate([np.full(len(at), one, np.int64) for one, at, _ in parts]),
            np.concatenate([at for _, at, _ in parts]),
            np.concatenate([values for _, _, values in parts]),
            series,
        ),
        "six hours",
    )
    return store


def test_readings_are_the_rates_and_peaks_of_declared_workloads(reader: MetricReader) -> None:
    """In order of time; an agent that has moved is one agent; what is not declared is left out."""
    used = read_usage(reader, SIZES, 1, NOW)
    assert set(used.numbers) == {"steady", "moved"}
    assert set(used.cpu.workloads.tolist()) == set(used.memory.workloads.tolist()) == {1}
    for usage, unit in ((used.cpu, 1.0), (used.memory, 1e9)):
        assert (np.diff(usage.times_ms) >= 0).all()
        for agent, rate in (("steady", 0.5), ("moved", 0.25)):
            own = usage.values[usage.agents == used.numbers[agent]]
            assert own == pytest.approx(rate * unit, rel=1e-6)
    assert (used.cpu_step_min, used.memory_step_min) == (5, 60)
    assert np.count_nonzero(used.cpu.agents == used.numbers["steady"]) >= HOURS * 12 - 2
    assert (used.cpu.times_ms % 300_000 == 0).all()


def test_time_is_cut_without_losing_or_doubling_a_reading(
    reader: MetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the whole time in one question."""
    whole = read_usage(reader, SIZES, 1, NOW)
    monkeypatch.setattr(workload_usage, "ANSWER_MAX", 35)
    cut = read_usage(reader, SIZES, 1, NOW)
    for one, other in ((whole.cpu, cut.cpu), (whole.memory, cut.memory)):
        assert [column.tolist() for column in one] == [column.tolist() for column in other]


def test_without_samples_there_are_no_readings(tmp_path: Path) -> None:
    """And no error: a fleet may have just been started."""
    store = open_metric_store(MetricsDeclaration(str(tmp_path / "none"), shards=1), lambda: NOW)
    used = read_usage(store, SIZES, 8, NOW)
    assert (len(used.cpu.values), len(used.memory.values), used.numbers) == (0, 0, {})


@pytest.mark.parametrize(
    ("series", "days", "step"),
    [(0, 8, 5), (8_600, 8, 5), (8_700, 8, 15), (30_000, 8, 30), (100_000, 8, 60), (10**6, 8, 60)],
)
def test_large_fleets_are_read_more_coarsely(series: int, days: int, step: int) -> None:
    """Never more than 20 million readings, down to one an hour."""
    assert cpu_step_min(series, days) == step


def test_allocations_count_agents_that_hold_something() -> None:
    """The largest size counts where they differ; stopped ones do not."""
    agents = [
        an_agent("a1", cpu_milli=10, memory_bytes=5),
        an_agent("a2", cpu_milli=20, memory_bytes=3, phase=AgentPhase.PENDING),
        an_agent("a3", cpu_milli=99, phase=AgentPhase.STOPPED),
        an_agent("b1", workload="other"),
    ]
    found = {one.workload: one for one in allocations_of(agents)}
    assert found["work"] == Allocation("net", "work", 2, 20, 5)
    assert found["other"].agents == 1
