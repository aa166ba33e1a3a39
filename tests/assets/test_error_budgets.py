"""Error budgets in Dagster: from raw samples in a real store to numbers and two claims."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from fleet.budget_tables import ERROR_BUDGETS
from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from fleet.metrics.store_facts import MetricsDeclaration
from fleet.objectives import Objective, ObjectiveKind
from ops.error_budgets import read_budgets
from platform_defs.build_objectives import BUDGETS_JOB, build_objectives
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from resources.metrics.opening import open_metric_store
from tests.fakes.clock import ManualClock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
OBJECTIVES = (
    Objective("calm", ObjectiveKind.ERROR_RATE, 0.99, network="n", service="calm"),
    Objective("burning", ObjectiveKind.ERROR_RATE, 0.99, network="n", service="burning"),
    Objective("asleep", ObjectiveKind.AVAILABILITY, 0.99, service="asleep"),
)


def counter(name: str, workload: str, per_minute: float) -> tuple[int, SeriesInfo, float]:
    """A counter of one agent that rises evenly for three hours."""
    labels = labels_of(
        name,
        {"agent": "a", "network": "n", "node": "n1", "region": "eu", "workload": workload},
    )
    return series_id(labels), SeriesInfo(labels, MetricType.COUNTER), per_minute


def samples() -> SampleBatch:
    """Three hours of tasks, a sample a minute: 0.1 % of them fail, or 50 %."""
    counters = [
        counter("agent_tasks_total", "calm", 1000),
        counter("agent_task_errors_total", "calm", 1),
        counter("agent_tasks_total", "burning", 1000),
        counter("agent_task_errors_total", "burning", 500),
    ]
    minutes = np.arange(1, 181, dtype=np.int64)
    return SampleBatch(
        np.repeat(np.array([one for one, _, _ in counters], np.int64), len(minutes)),
        np.tile(NOW_MS - (181 - minutes) * 60_000, len(counters)),
        np.concatenate([minutes * rate for _, _, rate in counters]).astype(np.float64),
        {one: info for one, info, _ in counters},
    )


def run(folder: Path, objectives: tuple[Objective, ...]) -> dg.ExecuteInProcessResult:
    """Materialize and judge, over a real store and a real lake."""
    clock = ManualClock(NOW)
    store = open_metric_store(MetricsDeclaration(str(folder / "metrics"), shards=1), clock.now)
    store.append(samples(), "batch-1")
    definitions = build_objectives(running=True)
    defs = dg.Definitions(
        assets=[dg.AssetSpec("metric_samples"), *definitions.assets],
        asset_checks=definitions.checks,
        jobs=definitions.jobs,
        schedules=definitions.schedules,
        resources={
            "metric_store": store,
            "objectives": objectives,
            "lake": ParquetLake(DirectoryStore(folder / "lake")),
            "clock": clock,
        },
        executor=dg.in_process_executor,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_job_def(BUDGETS_JOB).execute_in_process(instance=instance)


def test_budgets_are_recorded_judged_and_plotted(tmp_path: Path) -> None:
    """A calm one is kept, a burning one is missed, one that nobody asks has no data."""
    result = run(tmp_path, OBJECTIVES)
    assert result.success
    rows = read_budgets(ParquetLake(DirectoryStore(tmp_path / "lake")))
    assert [(row.objective, row.state) for row in rows] == [
        ("calm", "kept"),
        ("burning", "missed"),
        ("asleep", "no data"),
    ]
    calm, burning, asleep = rows
    assert calm.left_ratio == pytest.approx(0.9, abs=0.01)
    assert burning.burn_rate_1h == pytest.approx(50, rel=0.01)
    assert (asleep.events, asleep.left_ratio, asleep.burn_rate_1h) == (None, None, None)
    (event,) = result.get_asset_materialization_events()
    numbers = {
        name: value.value
        for name, value in event.materialization.metadata.items()
        if isinstance(value, dg.FloatMetadataValue | dg.IntMetadataValue)
    }
    assert numbers["objectives"] == 3
    assert (numbers["missed"], numbers["no data"]) == (1, 1)
    assert numbers["left_ratio of calm"] == pytest.approx(0.9, abs=0.01)
    assert numbers["left_ratio"] == pytest.approx(-49, rel=0.01)
    checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
    spent = checks["no_error_budget_is_spent"]
    assert not spent.passed
    assert spent.severity == dg.AssetCheckSeverity.ERROR
    assert spent.description == "1 of 3 objectives are missed, 0 at risk"
    measured = checks["every_objective_is_measured"]
    assert not measured.passed
    assert measured.severity == dg.AssetCheckSeverity.WARN


def test_without_objectives_the_claims_hold_of_nothing(tmp_path: Path) -> None:
    """And the schedule is stopped."""
    result = run(tmp_path, ())
    assert result.success
    assert all(one.passed for one in result.get_asset_check_evaluations())
    (schedule,) = build_objectives(running=False).schedules
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert ERROR_BUDGETS == "error_budgets"
