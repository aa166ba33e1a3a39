"""Runs the real definitions of backups on a small fleet, with real vaults in folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from fleet.agents import StatePut
from fleet.backup_declaration import BackupDeclaration
from fleet.ports.lake import Lake
from ops.backup_jobs import (
    BACKUP_JOB,
    OBJECTIVES_JOB,
    REPLICATE_JOB,
    RETENTION_JOB,
    job_config,
)
from ops.inventory_jobs import INVENTORY_JOB, RANGE_END, RANGE_START
from platform_defs.build import Deployment, build_defs
from platform_defs.declared_backup import simple_backup
from resources.reported_fleet import ReportedFleet
from resources.vault.region_vaults import RegionVaults
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.fleet import SeededFleet, declare_fleet
from tests.fakes.lake import InMemoryLake

NETWORK = "net"
HOME, AWAY = "eu", "us"


@dataclass
class BackupRuns:
    """Four agents of one network in two regions, and the definitions that back them up."""

    instance: dg.DagsterInstance
    store: InMemoryControlStore
    lake: Lake
    clock: ManualClock
    declaration: BackupDeclaration
    defs: dg.Definitions
    folder: Path
    dated: set[Path] = field(default_factory=set)

    def run(self, job: str, *partitions: str, **config: Any) -> dg.ExecuteInProcessResult:
        """One run of a job over neighbouring partitions; a second passes first."""
        self.clock.advance(1.0)
        chosen = partitions or self.partitions(job)
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            tags={RANGE_START: chosen[0], RANGE_END: chosen[-1]},
            run_config=config or job_config(job),
            raise_on_error=False,
        )

    def partitions(self, job: str) -> tuple[str, ...]:
        """What a job takes when nobody says: networks with agents, or all regions."""
        return (NETWORK,) if job in {BACKUP_JOB, RETENTION_JOB} else self.declaration.regions

    def request(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Carry a request of a sensor or schedule out, as the daemon would."""
        self.clock.advance(1.0)
        assert request.job_name is not None
        return self.defs.resolve_job_def(request.job_name).execute_in_process(
            instance=self.instance,
            tags=dict(request.tags),
            run_config=request.run_config,
            raise_on_error=False,
        )

    def back_up(self) -> None:
        """A snapshot, its replica and its proof."""
        for job in (INVENTORY_JOB, BACKUP_JOB, REPLICATE_JOB):
            result = self.run(job)
            assert result.success, job

    def judge(self) -> dg.ExecuteInProcessResult:
        """All claims at this moment, and the objectives."""
        return self.run(OBJECTIVES_JOB)

    def write(self, agent_id: str, body: bytes) -> None:
        """The next version of an agent's state."""
        state = self.store.state(agent_id)
        put = StatePut(agent_id, 1, state.version if state else 0, body)
        (result,) = self.store.put_states([put])
        assert result.error is None

    def begin_days_ago(self, days: float) -> None:
        """Set the clock back from this machine's, by which folders date their objects."""
        self.clock.advance((datetime.now(UTC) - self.clock.now()).total_seconds() - days * 86_400)

    def date_objects(self) -> None:
        """Date what was stored since the last call by the fleet's clock."""
        now = self.clock.now().timestamp()
        for region in self.declaration.regions:
            for path in self.objects(region, ""):
                if path not in self.dated:
                    os.utime(path, (now, now))
                    self.dated.add(path)

    def vaults(self) -> RegionVaults:
        """The vaults as another process opens them."""
        return RegionVaults(self.declaration, self.clock)

    def objects(self, region: str, prefix: str) -> list[Path]:
        """Files of a region's vault whose key begins with a prefix."""
        root = Path(self.declaration.location(region).path)
        return sorted(path for path in (root / prefix).rglob("*") if path.is_file())


@contextmanager
def open_backups(
    instance: dg.DagsterInstance, folder: Path, **changes: Any
) -> Iterator[BackupRuns]:
    """A fleet whose agents all have a state; keys and vaults are prepared, nothing is backed up.

    Args:
        instance: of Dagster.
        folder: takes the vaults and keys.
        changes: to the declaration of backups.
    """
    clock = ManualClock()
    store, lake = InMemoryControlStore(clock), InMemoryLake()
    declared = declare_fleet()
    fleet = SeededFleet(store, clock, declared)
    fleet.beat()
    declaration = replace(simple_backup((HOME, AWAY), str(folder), networks=(NETWORK,)), **changes)
    RegionVaults(declaration, clock).prepare()
    deployment = Deployment(
        declaration=declared,
        control_store_url="sqlite:///unused",
        lake_path="unused",
        backup=declaration,
    )
    defs = build_defs(
        deployment,
        control_store=store,
        lake=lake,
        clock=clock,
        cluster=ReportedFleet(store, clock),
    )
    runs = BackupRuns(instance, store, lake, clock, declaration, defs, folder)
    for agents in fleet.agents.values():
        for agent in agents:
            runs.write(agent.agent_id, agent.agent_id.encode() * 100)
    yield runs
