"""Costs, advice, consolidation, capacity and cleanup in Dagster: an hour of a small real fleet."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from fleet.agents import StatePut, Workload
from fleet.backup_declaration import BackupDeclaration
from fleet.backup_tables import REPLICAS, Replica
from fleet.consolidation.records import ConsolidationPolicy
from fleet.costs.prices import NodePrice, PriceBook, QuotedPrice
from fleet.costs.quotes import PriceQuestion, QuotePolicy
from fleet.errors import PermanentError
from fleet.inventory import Agent, AgentStateInfo, Gpu, Node
from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from fleet.metrics.store_facts import MetricsDeclaration
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rightsizing.records import RightsizingPolicy
from ops.capacity import read_forecast
from ops.cleanup import read_cleanup
from ops.consolidation import read_plan
from ops.costs import read_costs, read_spend
from ops.inventory import AGENTS, GPUS, NODES, STATES
from ops.price_quotes import quoted_book
from ops.rightsizing import advise_workloads, read_advice
from ops.savings import gather_savings
from platform_defs.build_costs import (
    COSTS_JOB,
    QUOTES_JOB,
    CostDeclaration,
    build_costs,
    cost_resources,
)
from platform_defs.declared_backup import simple_backup
from resources.control_store.opening import open_control_store
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from resources.lake.records import to_table
from resources.metrics.opening import open_metric_store
from resources.vault.resource import region_vaults_resource
from resources.vectors.network_indexes import NetworkIndexes
from tests.assets.inventory_runs import checked
from tests.fakes.clock import ManualClock
from tests.fakes.fleet import MIB, SeededFleet, declare_fleet
from tests.resources.vectors.text_world import declaration_at

DAYS = 2
WORK = Workload("work", "net", function="a:b", cpu_milli=100, memory_bytes=16 * MIB)
NODE_PRICES = (NodePrice("eu", region="eu", node_hour=2.0),)


@dg.logger
def silent_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """Says nothing: a failed test shows what was asserted."""
    del context
    quiet = logging.getLogger("silent")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    return quiet


class AskedPrices:
    """A provider that answers what it is told, and remembers what it was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        """Answer one price for everything, or fail."""
        self.asked: list[PriceQuestion] = []
        self.error = error

    def quotes(self, questions: Any, now: datetime) -> list[QuotedPrice]:
        """See the port."""
        if self.error is not None:
            raise self.error
        self.asked += questions
        return [QuotedPrice(one.region, one.instance_type, 7.0, "USD", now) for one in questions]


def load_of(agents: list[str], clock: ManualClock) -> SampleBatch:
    """Two days of every agent: 0.4 cores, 40 MiB; a sample a minute."""
    now_ms = round(clock.now().timestamp() * 1000)
    times = now_ms - np.arange(DAYS * 1440 + 1, dtype=np.int64)[::-1] * 60_000
    series: dict[int, SeriesInfo] = {}
    columns: list[tuple[int, Any]] = []
    for agent in agents:
        where = {"agent": agent, "network": "net", "workload": "work", "node": agent[:-3]}
        cpu = labels_of("agent_cpu_seconds_total", where)
        memory = labels_of("agent_memory_usage_bytes", where)
        series[series_id(cpu)] = SeriesInfo(cpu, MetricType.COUNTER, interval_ms=60_000)
        series[series_id(memory)] = SeriesInfo(memory, MetricType.GAUGE, interval_ms=60_000)
        columns.append((series_id(cpu), np.arange(len(times)) * 24.0))
        columns.append((series_id(memory), np.full(len(times), 40.0 * MIB)))
    return SampleBatch(
        np.concatenate([np.full(len(times), one, np.int64) for one, _ in columns]),
        np.concatenate([times for _ in columns]),
        np.concatenate([values for _, values in columns]),
        series,
    )


class CostRuns:
    """A fleet of two regions, its history, and the definitions over them."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance, source: AskedPrices) -> None:
        """Report once, and write two days of samples."""
        self.instance = instance
        self.clock = ManualClock()
        self.store = open_control_store(f"sqlite:///{folder / 'control.db'}", clock=self.clock)
        self.lake = ParquetLake(DirectoryStore(str(folder / "lake")))
        declaration = declare_fleet()
        self.fleet = SeededFleet(self.store, self.clock, declaration)
        self.store.declare_workloads([WORK])
        metrics = MetricsDeclaration(str(folder / "metrics"), shards=1)
        samples = open_metric_store(metrics, self.clock.now)
        names = [agent.agent_id for group in self.fleet.agents.values() for agent in group]
        samples.append(load_of(names, self.clock), "two days")
        backup: BackupDeclaration = simple_backup(declaration.regions, str(folder))
        costs = CostDeclaration(
            prices=PriceBook(nodes=NODE_PRICES),
            quotes=QuotePolicy(enabled=True),
            workloads=(WORK,),
        )
        self.resources: dict[str, Any] = {
            **cost_resources(costs),
            "backup_declaration": backup,
            "clock": self.clock,
            "control_store": self.store,
            "fleet_declaration": declaration,
            "lake": self.lake,
            "metric_store": samples,
            "network_indexes": NetworkIndexes(declaration_at(folder), self.clock),
            "price_source": source,
            "region_vaults": region_vaults_resource,
            "rescaling_declaration": RescalingDeclaration(),
        }

    def inventory(self) -> None:
        """Every node reports, and the newest inventory of each region lies in the lake."""
        self.fleet.beat()
        now, store = self.clock.now(), self.store
        for region in self.fleet.declaration.regions:
            for table, rows, record in (
                (NODES, store.nodes(region), Node),
                (AGENTS, store.agents(region), Agent),
                (STATES, store.state_infos(region), AgentStateInfo),
                (GPUS, store.gpus(region), Gpu),
            ):
                self.lake.write(table, region, to_table(rows, record), now)
        copy = Replica("us", "net", False, 1, 0, "s", now, now, 1, 1, 24 * 2**30, 1.0, now)
        self.lake.write(REPLICAS, "us", to_table([copy], Replica), now)

    def run(self, job: str = COSTS_JOB) -> dg.ExecuteInProcessResult:
        """One run; nodes go on reporting while it waits."""
        self.clock.on_pause = self.fleet.beat
        parts = build_costs(running=True, quoting=True)
        defs = dg.Definitions(
            assets=parts.assets,
            asset_checks=parts.checks,
            jobs=parts.jobs,
            resources=self.resources,
            executor=dg.in_process_executor,
            loggers={"console": silent_logger},
        )
        return defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, raise_on_error=False
        )


@contextmanager
def cost_runs(folder: Path, source: AskedPrices | None = None) -> Iterator[CostRuns]:
    """The fleet; its store is always closed."""
    with dg.DagsterInstance.ephemeral() as instance:
        runs = CostRuns(folder, instance, source or AskedPrices())
        try:
            yield runs
        finally:
            runs.store.close()


def numbers_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """Plotted numbers of one materialization."""
    (event,) = [
        event
        for event in result.get_asset_materialization_events()
        if event.materialization.asset_key.to_user_string() == asset
    ]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_an_hour_is_priced_judged_and_recorded_and_nothing_is_changed(tmp_path: Path) -> None:
    """From reports and raw samples in real stores to every table of the group and every claim."""
    with cost_runs(tmp_path) as runs:
        runs.store.put_states([StatePut("eu-1-a1", 1, 0, b"x" * 4096)])
        runs.inventory()
        before = (runs.store.placements(), runs.store.nodes(), runs.store.workloads())
        result = runs.run()
        assert result.success, result.all_events
        assert (runs.store.placements(), runs.store.workloads()) == (before[0], before[2])

        costs = read_costs(runs.lake)
        bill = numbers_of(result, "cost_report")
        assert bill["nodes_paid"] == 4
        list_price = 2 * 0.031611 + 1 * 0.004237
        assert bill["egress_per_hour"] == 0.01
        assert bill["spend_per_hour"] == pytest.approx(4.01 + 2 * list_price, abs=0.001)
        assert sum(row.agents for row in costs) == 8
        assert sum(row.state_bytes for row in costs) == 4096
        assert read_spend(
            runs.lake, runs.clock.now() - timedelta(days=1), runs.clock.now() + timedelta(days=1)
        ) == pytest.approx([bill["spend_per_hour"]], abs=0.001)

        advice = {row.resource: row for row in read_advice(runs.lake)}
        assert {(row.verdict, row.agents, row.allocated) for row in advice.values()} == {
            ("grow", 8, 100),
            ("grow", 8, 16 * MIB),
        }
        assert advice["cpu"].target == pytest.approx(400 * 1.15, rel=0.06)
        assert advice["memory"].target == pytest.approx(40 * MIB * 1.15, rel=0.06)
        assert advice["cpu"].tested_violation_ratio == 0.0
        assert numbers_of(result, "rightsizing_advice")["grow"] == 2

        assert runs.clock.pauses == []
        assert read_plan(runs.lake) == []
        forecast = read_forecast(runs.lake)
        assert {(row.region, row.resource) for row in forecast} == {
            (region, resource)
            for region in ("eu", "us")
            for resource in ("cpu_milli", "memory_bytes")
        }
        assert {row.capacity for row in forecast if row.resource == "cpu_milli"} == {4000.0}
        assert read_cleanup(runs.lake) == []
        assert {row.kind for row in gather_savings(runs.lake, runs.clock.now())} == {
            "rightsizing",
            "spot",
        }
        claims = checked(result)
        assert len(claims) == 7
        assert {name for name, claim in claims.items() if not claim.passed} == set()


def test_a_kill_is_remembered_after_the_agent_runs_again(tmp_path: Path) -> None:
    """One look sees it, the next does not; the advice stays raised, and a command keeps nothing."""
    with cost_runs(tmp_path) as runs:
        runs.fleet.beat()
        samples, clock = runs.resources["metric_store"], runs.clock
        well = runs.store.agents()
        killed = [well[0]._replace(reason="OOMKilled"), *well[1:]]

        def ooms(agents: Any, *, keep: bool) -> int:
            rows = advise_workloads(
                samples, agents, RightsizingPolicy(), PriceBook(), clock.now(), runs.lake,
                keep_kills=keep,
            )  # fmt: skip
            return sum(row.ooms for row in rows)

        assert ooms(killed, keep=False) == 1
        assert ooms(well, keep=True) == 0
        assert ooms(killed, keep=True) == 1
        clock.advance(60)
        assert ooms(killed, keep=True) == 1
        assert ooms(well, keep=True) == 1
        assert sum(one.rows for one in runs.lake.objects("memory_kills")) == 1


def test_what_could_go_is_listed_and_left(tmp_path: Path) -> None:
    """Nodes whose agents fit elsewhere at both looks, a state and rows that belong to nothing."""
    with cost_runs(tmp_path) as runs:
        runs.store.put_states([StatePut("eu-1-a1", 1, 0, b"x" * 4096)])
        runs.store.retire_agents(["eu-1-a1"])
        lost = to_table([runs.store.nodes("eu")[0]], Node)
        runs.lake.write("node_inventory", "atlantis", lost, runs.clock.now())
        runs.clock.advance(8 * 86_400)
        runs.inventory()
        runs.resources["consolidation_policy"] = ConsolidationPolicy(settle_s=0.0)
        result = runs.run()
        assert result.success
        assert runs.clock.pauses == [15.0]
        plan = read_plan(runs.lake)
        assert [(row.kind, row.standing, row.agents_moved, row.saving_ratio) for row in plan] == [
            ("single", "validated", 1, 0.5),
            ("single", "validated", 2, 0.5),
        ]
        assert {placed.desired for placed in runs.store.placements()} == {"running"}

        found = {row.kind: row for row in read_cleanup(runs.lake)}
        assert set(found) == {"retired_state", "lake_partition"}
        state = found["retired_state"]
        assert (state.subject, state.size_bytes) == ("eu-1-a1", 4096)
        assert found["lake_partition"].subject == "node_inventory/atlantis"
        assert not checked(result)["nothing_is_left_behind"].passed
        assert runs.lake.objects("node_inventory", "atlantis")
        assert [info.agent_id for info in runs.store.state_infos()] == ["eu-1-a1"]
        kinds = Counter(row.kind for row in gather_savings(runs.lake, runs.clock.now()))
        assert (kinds["consolidation"], kinds["cleanup"]) == (2, 2)
        proposals = gather_savings(runs.lake, runs.clock.now())
        (tested, *_) = [row.tested for row in proposals if row.kind == "consolidation"]
        assert tested == "two looks; the other nodes had room at 1 of 1 recorded looks"


def test_quotes_are_asked_once_a_day_and_a_refusal_fails_only_its_own_run(tmp_path: Path) -> None:
    """A fresh quote prices the report; without one the settings do, whatever the provider says."""
    source = AskedPrices(PermanentError("no credentials", hint="Give AWS_ACCESS_KEY_ID."))
    with cost_runs(tmp_path, source) as runs:
        book = PriceBook(nodes=(NodePrice("eu", "eu", instance_type="m7.large", node_hour=1.0),))
        runs.resources["price_book"] = book
        failed = runs.run(QUOTES_JOB)
        assert not failed.success
        text = json.dumps([str(event.event_specific_data) for event in failed.all_events])
        assert "no credentials" in text
        assert quoted_book(runs.lake, book, QuotePolicy(enabled=True)) == book
        source.error = None
        for _ in range(2):
            assert runs.run(QUOTES_JOB).success
            runs.clock.advance(60)
        assert source.asked == [PriceQuestion("eu", "m7.large")]
        quoted = quoted_book(runs.lake, book, QuotePolicy(enabled=True))
        (node, *_) = runs.store.nodes("eu")
        assert quoted.rate(node).node_hour == 7.0
        assert quoted_book(runs.lake, book, QuotePolicy()).rate(node).node_hour == 1.0
