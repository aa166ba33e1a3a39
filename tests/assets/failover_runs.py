"""Runs the report about failover over a small fleet that a real controller watches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from fleet.backup_declaration import BackupDeclaration
from fleet.declaration import FleetDeclaration
from fleet.failover_declaration import FailoverDeclaration
from fleet.heartbeats import HeartbeatPolicy
from fleet.ports.lake import Lake
from ops.failover_report_jobs import FAILOVER_REPORT_JOB, report_request
from ops.inventory_jobs import INVENTORY_JOB, RANGE_END, RANGE_START
from platform_defs.build import Deployment, build_defs
from platform_defs.declared_backup import simple_backup
from resources.reported_fleet import ReportedFleet
from tests.fakes.lake import InMemoryLake
from tests.ops.test_failover_controller import TARGETS, WatchedWorld

REGIONS = ("eu", "us")


class FailoverRuns:
    """Two regions of two nodes with four agents each, a controller, and the definitions."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path) -> None:
        """All is well, and the inventory has been taken."""
        self.instance = instance
        self.world = WatchedWorld()
        self.store = self.world.store
        self.lake: Lake = InMemoryLake()
        self.backup: BackupDeclaration = simple_backup(REGIONS, str(folder))
        deployment = Deployment(
            declaration=FleetDeclaration(
                REGIONS, tuple(self.world.nodes), HeartbeatPolicy(5.0, 10.0), ()
            ),
            control_store_url="sqlite:///unused",
            lake_path="unused",
            backup=self.backup,
            failover=FailoverDeclaration(targets=TARGETS, keep_history_days=1),
        )
        self.defs = build_defs(
            deployment,
            control_store=self.store,
            lake=self.lake,
            clock=self.world.clock,
            cluster=ReportedFleet(self.store, self.world.clock),
        )
        self.run(INVENTORY_JOB)

    def run(self, job: str) -> dg.ExecuteInProcessResult:
        """One run of a job over both regions, a look of the controller later."""
        self.world.look()
        return self.quietly(job)

    def quietly(self, job: str) -> dg.ExecuteInProcessResult:
        """The same, with no controller alive."""
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            tags={RANGE_START: REGIONS[0], RANGE_END: REGIONS[-1]},
            raise_on_error=False,
        )

    def report(self) -> dg.ExecuteInProcessResult:
        """As schedule and sensor ask for it."""
        self.world.look()
        request = report_request(REGIONS, "key", "because")
        assert request.job_name == FAILOVER_REPORT_JOB
        return self.defs.resolve_job_def(FAILOVER_REPORT_JOB).execute_in_process(
            instance=self.instance, tags=dict(request.tags), raise_on_error=False
        )

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Newest rows of all partitions."""
        found: list[dict[str, Any]] = self.lake.read_latest(table).to_pylist()
        return found

    def lose(self, node_id: str) -> None:
        """A node dies, its agents are moved, the incident ends."""
        self.world.kill(node_id, terminated=True)
        self.world.carry_out(self.world.look_until_ordered())
        for _ in range(5):
            self.world.look()
