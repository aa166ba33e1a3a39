"""`stateroom costs`, `rightsizing` and `capacity` on a real store, lake and metrics."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.cleanup import CLEANUP_TABLE, CleanupProposal
from fleet.consolidation.records import PLAN_TABLE, ConsolidationProposal
from fleet.costs.proposals import proposal_id
from fleet.costs.report import COST_TABLE, CostRow
from fleet.leases import LEADER_LEASE
from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from fleet.ports.control_store import ControlStore
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


def test_capacity_is_told_of_this_moment_also_before_the_first_report(
    run: Run, filled: Path
) -> None:
    """Two nodes of 2,000 have reported, three agents of 10 are on them; there is no trend yet."""
    fine = run("capacity", "--lose", "0", "--json")
    assert fine.exit_code == 0, fine.output
    rows = {row["resource"]: row for row in json.loads(fine.stdout)}
    cpu = rows["cpu_milli"]
    assert (cpu["region"], cpu["capacity"], cpu["allocated"]) == ("us-west-2", 4000.0, 20.0)
    assert cpu["days_to_full"] is None
    shown = run("capacity")
    assert "no hourly report yet" in shown.output
    assert "4000" in shown.output
    assert run("capacity", "--region", "mars").exit_code == exit_codes.USAGE
    empty = run("capacity", "--region", "eu")
    assert empty.exit_code == exit_codes.USAGE
    assert "no node of region eu has ever reported" in empty.stderr


def test_capacity_tells_the_trend_and_what_a_lost_node_leaves(run: Run, lake: ParquetLake) -> None:
    """Reports say that 24 more a day are allocated; how full it is, is of this moment."""
    fine = run("capacity", "--lose", "0", "--json")
    (cpu,) = [row for row in json.loads(fine.stdout) if row["resource"] == "cpu_milli"]
    assert (cpu["allocated"], cpu["points"]) == (20.0, 14)
    assert cpu["slope_per_day"] == pytest.approx(24, rel=0.05)
    assert cpu["days_to_full"] == pytest.approx((3600 - cpu["peak"]) / cpu["slope_per_day"])
    shown = run("capacity", "--region", "us-west-2", STATEROOM_CAPACITY__WARN_DAYS="3000")
    assert shown.exit_code == exit_codes.FINDING
    assert "a day, " in shown.output
    assert "trend from 13 reports, the newest" in shown.output


def test_spot_and_proposals_have_an_answer_before_anything_was_judged(
    run: Run, lake: ParquetLake
) -> None:
    """No workload is declared in the store, and no plan was made yet."""
    assert "no workload has agents" in run("costs", "spot").output
    assert json.loads(run("costs", "spot", "--json").stdout) == []
    assert "nothing is proposed" in run("costs", "proposals").output
    assert json.loads(run("costs", "proposals", "--json").stdout) == []
    assert "nothing is left behind" in run("costs", "cleanup").output


def left(lake: ParquetLake, *rows: tuple[str, str, bool], at: datetime = NOW) -> None:
    """A list of what is left behind: id, kind and whether it is held."""
    found = [
        CleanupProposal(name, kind, "node_inventory/mars", "", 5, 1e6, held, 0.0, "why", NOW)
        for name, kind, held in rows
    ]
    lake.write(CLEANUP_TABLE, "all", to_table(found, CleanupProposal), at)


def test_only_what_is_approved_and_still_left_behind_is_removed(
    run: Run, lake: ParquetLake, store: ControlStore
) -> None:
    """What is held, unknown, young or without remover is refused; the list removes nothing."""
    old = NOW - timedelta(days=8)
    lake.write("node_inventory", "mars", to_table([a_row(old, "cpu", 1)], CostRow), old)
    rows_kind = "lake_partition"
    rows = proposal_id("cleanup", f"{rows_kind}  node_inventory/mars")
    left(lake, (rows, rows_kind, False), ("state", "retired_state", False))
    assert "node_inventory/mars" in run("costs", "cleanup").output
    for name, why, extra in (
        (rows, "not held", {"STATEROOM_CLEANUP__KEEP": "node_inventory/*"}),
        (rows, "not left behind any more", {"STATEROOM_CLEANUP__ORPHAN_DAYS": "9"}),
        ("state", "not left behind any more", {}),
        ("none", "lists the ids", {}),
    ):
        refused = run("costs", "cleanup", "--approve", name, **extra)
        assert (refused.exit_code, why in refused.stderr) == (exit_codes.USAGE, True), name
    assert lake.objects("node_inventory", "mars")
    done = run("costs", "cleanup", "--approve", rows, "--reason", "moved", "--by", "ann")
    assert done.exit_code == 0, done.output
    assert "removed 1 objects of mars" in done.output
    assert lake.objects("node_inventory", "mars") == []
    for table in ("node_inventory", "agent_inventory"):
        lake.write(table, "venus", to_table([a_row(old, "cpu", 1)], CostRow), old)
    left(lake, (proposal_id("cleanup", "lake_partition  agent_inventory/venus"), rows_kind, False),
         ("held", rows_kind, True), ("gone", rows_kind, False), at=datetime.now(UTC))  # fmt: skip
    together = run("costs", "cleanup", "--approve-all", rows_kind)
    assert (together.exit_code, "removed 1 objects of venus" in together.output) == (0, True)
    assert "left alone: lake_partition node_inventory/mars is not left" in together.stderr
    assert lake.objects("node_inventory", "venus")
    assert lake.objects("agent_inventory", "venus") == []
    assert run("costs", "cleanup", "--approve-all", "agent_logs").exit_code == exit_codes.USAGE
    assert store.open_actions() == []


def test_an_idle_agent_is_stopped_when_it_is_still_idle(
    run: Run, lake: ParquetLake, store: ControlStore, samples: None
) -> None:
    """By samples of this moment: this one works, so it goes on."""
    idle = CleanupProposal(
        proposal_id("cleanup", "idle_agent cpu-1"), "idle_agent", "cpu-1", "us-west-2", 0, 1e6,
        False, 0.0, "why", NOW,
    )  # fmt: skip
    lake.write(CLEANUP_TABLE, "all", to_table([idle], CleanupProposal), NOW)
    refused = run("costs", "cleanup", "--approve", idle.proposal_id)
    assert "not left behind any more" in refused.stderr
    assert {one.desired for one in store.placements()} == {"running"}


def test_nodes_are_emptied_only_by_a_proposal_that_stands_and_a_controller_that_leads(
    run: Run, lake: ParquetLake, store: ControlStore
) -> None:
    """Nothing is marked and nothing ordered before both are known."""
    assert "no node is proposed" in run("costs", "consolidation").output
    rows = [
        ConsolidationProposal(
            name, "single", "us-west-2", ("us-west-2-1",), 2, (), 0.1, 0.5, 0.5, 1.0, standing,
            "2 agents fit", NOW - timedelta(minutes=1),
        )
        for name, standing in (("good", "validated"), ("bad", "dropped"))
    ]  # fmt: skip
    lake.write(PLAN_TABLE, "all", to_table(rows, ConsolidationProposal), NOW)
    assert "us-west-2-1" in run("costs", "consolidation").output
    assert len(json.loads(run("costs", "consolidation", "--json").stdout)) == 2
    for name, why in (("bad", "not validated"), ("none", "lists the ids"), ("good", "no controll")):
        refused = run("costs", "consolidation", "--approve", name, "--by", "ann")
        assert (refused.exit_code != 0, why in refused.stderr) == (True, True), refused.stderr
    store.acquire_lease(LEADER_LEASE, "me", 3600.0)
    changed = run("costs", "consolidation", "--approve", "good", "--by", "ann")
    assert "does not hold any more" in changed.stderr
    assert (store.maintenances(), store.incidents(open_only=True, limit=9)) == ([], [])
    assert store.open_actions() == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('[prices.a]\nregion = "mars"', "prices.a.region: 'mars' is not valid"),
        ('[disruption_budgets.b]\nnodes = "ten"', "disruption_budgets.b.nodes: 'ten'"),
        ('[disruption_budgets.b]\nagents = "ten"', "disruption_budgets.b.agents: 'ten'"),
        ("[disruption_budgets.b]", "disruption_budgets.b.nodes: ''"),
        (
            '[disruption_budgets.b]\nagents = "1"\nworkloads = ["nobody"]',
            "disruption_budgets.b.workloads: 'nobody'",
        ),
        (
            '[disruption_budgets.b]\nnodes = "1"\nworkloads = ["cpu"]',
            "disruption_budgets.b.workloads: ['cpu']",
        ),
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
