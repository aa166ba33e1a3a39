"""Runs the real definitions on a small fleet and reads back what Dagster recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from ops.inventory_jobs import INVENTORY_CHECKS_JOB, INVENTORY_JOB, RANGE_END, RANGE_START
from platform_defs.build import Deployment, build_defs
from resources.control_store.opening import open_control_store
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from resources.reported_fleet import ReportedFleet
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.fleet import FaultyFleet, SeededFleet, declare_fleet
from tests.fakes.lake import InMemoryLake
from tests.servers.empty_stores import sqlite_url


@dataclass
class InventoryRuns:
    """A fleet with two regions of two nodes, and the definitions that inventory it."""

    instance: dg.DagsterInstance
    store: ControlStore
    lake: Lake
    clock: ManualClock
    fleet: SeededFleet
    cluster: FaultyFleet
    lake_path: Path | None
    defs: dg.Definitions

    def run(self, *regions: str, job: str = INVENTORY_JOB) -> dg.ExecuteInProcessResult:
        """One run over the given regions, all by default; a second passes first."""
        self.clock.advance(1.0)
        chosen = regions or self.fleet.declaration.regions
        tags = {RANGE_START: chosen[0], RANGE_END: chosen[-1]} if job == INVENTORY_JOB else {}
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, tags=tags, raise_on_error=False
        )

    def judge(self) -> dg.ExecuteInProcessResult:
        """All checks on what the lake holds, without taking the inventory."""
        return self.run(job=INVENTORY_CHECKS_JOB)

    def alter(self, region: str, **changes: Any) -> None:
        """Let every look at a region see something else."""
        seen = self.cluster.snapshot(region)
        self.cluster.altered[region] = seen._replace(
            observed_at=self.clock.now() + timedelta(seconds=1), **changes
        )


def materialized(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dict[str, Any]]:
    """(asset, region) -> metadata values of every materialization of a run."""
    events = result.get_asset_materialization_events()
    found = {}
    for event in events:
        made = event.materialization
        key = (made.asset_key.to_user_string(), made.partition or "")
        assert key not in found, f"{key} was materialized twice"
        found[key] = {name: value.value for name, value in made.metadata.items()}
    return found


def checked(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Claim -> its evaluation."""
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def red(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Claim -> severity of every claim that does not hold."""
    return {name: each.severity.value for name, each in checked(result).items() if not each.passed}


@contextmanager
def open_runs(instance: dg.DagsterInstance, folder: Path | None) -> Iterator[InventoryRuns]:
    """A fleet that has just reported; in memory, or below `folder`."""
    clock = ManualClock()
    store: Any
    lake: Lake
    if folder is None:
        store, lake = InMemoryControlStore(clock), InMemoryLake()
    else:
        store = open_control_store(sqlite_url(folder), clock=clock)
        lake = ParquetLake(DirectoryStore(str(folder / "lake")))
    try:
        declaration = declare_fleet()
        fleet = SeededFleet(store, clock, declaration)
        fleet.beat()
        cluster = FaultyFleet(ReportedFleet(store, clock))
        deployment = Deployment(
            declaration=declaration, control_store_url="sqlite:///unused", lake_path="unused"
        )
        defs = build_defs(deployment, control_store=store, lake=lake, clock=clock, cluster=cluster)
        lake_path = None if folder is None else folder / "lake"
        yield InventoryRuns(instance, store, lake, clock, fleet, cluster, lake_path, defs)
    finally:
        store.close()
