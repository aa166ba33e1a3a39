"""`stateroom costs`, `rightsizing` and `capacity` on a real store, lake and metrics."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.cleanup import CLEANUP_TABLE, CleanupProposal
from fleet.costs.report import COST_TABLE, CostRow
from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from platform_defs.command import exit_codes
from platform_defs.settings import load_settings
from platform_defs.settings_metrics import declared_metrics
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from resources.lake.records import to_table
from resources.metrics.opening import open_metric_store
from tests.platform_defs.command.conftest import Run

NOW = datetime.now(UTC).replace(microsecond=0)


def a_row(at: datetime, workload: str, cpu_milli: int) -> CostRow:
    """Capacity or allocation of one node of us-west-2."""
    return CostRow(
        network_id="watch",
        workload=workload,
        region="us-west-2",
        node_id="us-west-2-1",
        agents=1,
        cpu_milli=cpu_milli,
        memory_bytes=2**30,
        gpu_milli=0,
        state_bytes=0,
        allocated_per_hour=1.0,
        used_per_hour=0.5,
        wasted_per_hour=0.5,
        storage_per_hour=0.0,
        egress_per_hour=0.0,
        spend_per_hour=1.0,
        price_source="resource prices",
        looked_at=at,
    )


@pytest.fixture
def lake(filled: Path) -> ParquetLake:
    """Three days of reports: what is allocated of 2,000 grows by 24 a day, from 900."""
    made = ParquetLake(DirectoryStore(str(filled / "lake")))
    for hour in range(0, 73, 6):
        at = NOW - timedelta(hours=72 - hour)
        used = 900 + hour
        rows = [a_row(at, "cpu", used), a_row(at, "(idle)", 2000 - used)]
        made.write(COST_TABLE, "all", to_table(rows, CostRow), at)
    return made


@pytest.fixture
def samples(filled: Path, fleet_dir: Path) -> None:
    """A day of two agents of the store: 0.2 cores, 100 MiB."""
    settings = load_settings(fleet_dir / "stateroom.toml")
    settings.metrics.path.mkdir(parents=True, exist_ok=True)
    store = open_metric_store(declared_metrics(settings.metrics), lambda: datetime.now(UTC))
    end = round(NOW.timestamp() * 1000) // 60_000 * 60_000
    times = end - np.arange(1441, dtype=np.int64)[::-1] * 60_000
    series: dict[int, SeriesInfo] = {}
    columns: list[tuple[int, Any]] = []
    for agent in ("cpu-1", "cpu-2"):
        where = {"agent": agent, "network": "watch", "workload": "cpu"}
        for name, kind, values in (
            ("agent_cpu_seconds_total", MetricType.COUNTER, np.arange(1441) * 12.0),
            ("agent_memory_usage_bytes", MetricType.GAUGE, np.full(1441, 100.0 * 2**20)),
        ):
            labels = labels_of(name, where)
            series[series_id(labels)] = SeriesInfo(labels, kind, interval_ms=60_000)
            columns.append((series_id(labels), values))
    store.append(
        SampleBatch(
            np.concatenate([np.full(1441, one, np.int64) for one, _ in columns]),
            np.tile(times, len(columns)),
            np.concatenate([values for _, values in columns]),
            series,
        ),
        "a day",
    )


def test_costs_are_added_up_by_what_is_asked(run: Run, filled: Path) -> None:
    """Of the nodes that have reported; the one that never did costs nothing."""
    shown = run("costs", "report", "--by", "node")
    assert shown.exit_code == 0, shown.output
    assert "us-west-2-1" in shown.output
    assert "eu-1" not in shown.output
    assert "USD a month" in shown.output
    groups = json.loads(run("costs", "report", "--json").stdout)
    assert {group["name"] for group in groups} >= {"watch", "(idle)"}
    spend = sum(group["spend_per_hour"] for group in groups)
    assert spend == pytest.approx(2 * (2 * 0.031611 + 0.004237), rel=0.01)
    dear = run("costs", "report", "--json", STATEROOM_COSTS__CPU_CORE_HOUR="1.0")
    assert sum(g["spend_per_hour"] for g in json.loads(dear.stdout)) > 10 * spend


def test_right_sizing_is_advised_from_what_agents_used(run: Run, samples: None) -> None:
    """Twenty times too little CPU, six times too little memory; nothing is changed."""
    shown = run("rightsizing", "--network", "watch")
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("  grow  ") == 2
    assert "nothing was changed" in shown.output
    rows = {row["resource"]: row for row in json.loads(run("rightsizing", "--json").stdout)
            if row["network_id"] == "watch"}  # fmt: skip
    assert rows["cpu"]["target"] == pytest.approx(230, rel=0.06)
    assert rows["memory"]["target"] == pytest.approx(115 * 2**20, rel=0.06)
    assert rows["cpu"]["allocated"] == 10
    for option in ("network", "workload"):
        nobody = run("rightsizing", f"--{option}", "nobody")
        assert (nobody.exit_code, f"no {option} 'nobody'" in nobody.output) == (2, True)


def test_right_sizing_without_metrics_says_where_they_come_from(run: Run, filled: Path) -> None:
    """An inspection makes no store."""
    result = run("rightsizing")
    assert result.exit_code == exit_codes.TRANSIENT
    assert "stateroom up" in result.stderr
    assert not (filled / "metrics").exists()


def test_capacity_tells_the_trend_and_what_a_lost_node_leaves(run: Run, lake: ParquetLake) -> None:
    """972 of 2,000 and 24 more a day: 1,800 in 34 days."""
    fine = run("capacity", "--lose", "0", "--json")
    (cpu,) = [row for row in json.loads(fine.stdout) if row["resource"] == "cpu_milli"]
    assert (cpu["region"], cpu["capacity"], cpu["allocated"]) == ("us-west-2", 2000.0, 972.0)
    assert cpu["slope_per_day"] == pytest.approx(24)
    assert cpu["days_to_full"] == pytest.approx((1800 - 972) / 24, abs=0.5)
    shown = run("capacity", "--region", "us-west-2", STATEROOM_CAPACITY__WARN_DAYS="60")
    assert shown.exit_code == exit_codes.FINDING
    assert "grows by 24 a day" in shown.output
    assert run("capacity", "--region", "mars").exit_code == exit_codes.USAGE
    empty = run("capacity", "--region", "eu")
    assert empty.exit_code == exit_codes.USAGE
    assert "costs_job" in empty.stderr


def test_spot_and_proposals_have_an_answer_before_anything_was_judged(
    run: Run, lake: ParquetLake
) -> None:
    """No workload is declared in the store, and no plan was made yet."""
    assert "no workload has agents" in run("costs", "spot").output
    assert json.loads(run("costs", "spot", "--json").stdout) == []
    assert "nothing is proposed" in run("costs", "proposals").output
    assert json.loads(run("costs", "proposals", "--json").stdout) == []
    assert "nothing is left behind" in run("costs", "cleanup").output


def left(lake: ParquetLake, *rows: tuple[str, str, bool]) -> None:
    """A list of what is left behind: id, kind and whether it is held."""
    found = [
        CleanupProposal(name, kind, "node_inventory/mars", "", 5, 1e6, held, 0.0, "why", NOW)
        for name, kind, held in rows
    ]
    lake.write(CLEANUP_TABLE, "all", to_table(found, CleanupProposal), NOW)


def test_only_approved_rows_of_the_lake_are_removed(run: Run, lake: ParquetLake) -> None:
    """What is held, of another kind or unknown is refused, and the list alone removes nothing."""
    rows = to_table([a_row(NOW, "cpu", 1)], CostRow)
    lake.write("node_inventory", "mars", rows, NOW)
    left(
        lake,
        ("held", "lake_partition", True),
        ("state", "retired_state", False),
        ("rows", "lake_partition", False),
    )
    assert "node_inventory/mars" in run("costs", "cleanup").output
    for name, why in (("held", "not held"), ("state", "retired_state"), ("none", "lists the ids")):
        refused = run("costs", "cleanup", "--approve", name)
        assert refused.exit_code == exit_codes.USAGE
        assert why in refused.stderr
    assert lake.objects("node_inventory", "mars")
    done = run("costs", "cleanup", "--approve", "rows")
    assert done.exit_code == 0, done.output
    assert "removed 1 objects" in done.output
    assert lake.objects("node_inventory", "mars") == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('[prices.a]\nregion = "mars"', "prices.a.region: 'mars' is not valid"),
        ('[disruption_budgets.b]\nnodes = "ten"', "disruption_budgets.b.nodes: 'ten'"),
        (
            '[disruption_budgets.b]\nnodes = "1"\nreasons = ["drifted"]',
            "disruption_budgets.b.reasons: 'drifted'",
        ),
        ("[rightsizing]\nlower_percentile = 0.99", "rightsizing.target_percentile"),
        ("[costs]\ncpu_core_hour = -1", "costs.cpu_core_hour: -1 is not valid"),
        ("[consolidation]\nvalidate_after_s = 14", "consolidation.validate_after_s: 14"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    run: Run, fleet_dir: Path, lines: str, said: str
) -> None:
    """All of them at once, before anything starts."""
    path = fleet_dir / "stateroom.toml"
    path.write_text(f"{path.read_text()}\n{lines}\n")
    result = run("config", "validate")
    assert result.exit_code == exit_codes.USAGE
    assert said in result.stderr
