"""Judges whether each region could be taken over now, from the lake and the control store."""

from typing import Any, NamedTuple

import dagster as dg

from fleet.backup_declaration import BackupDeclaration, declared_objectives
from fleet.declaration import FleetDeclaration
from fleet.errors import StateroomError
from fleet.failover_declaration import FailoverDeclaration
from fleet.failover_tables import READINESS, Readiness, ReadinessRow
from fleet.inventory import Agent, Node
from fleet.leases import LEADER_LEASE
from fleet.placement.requests import rules_of
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from fleet.takeover import TakeoverFacts, judge_takeover
from ops.failover_reports import commit_rows
from ops.inventory import AFTER, AGENTS, NODES
from ops.inventory_reads import read_inventory
from ops.partitions import Recorded, record_partitions
from ops.recovery_objectives import read_copies
from resources.vault.region_vaults import RegionVaults


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Plan each region's evacuation, and judge everything that it would need.",
)
def judge_takeovers_op(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    control_store: dg.ResourceParam[ControlStore],
    fleet_declaration: dg.ResourceParam[FleetDeclaration],
    failover_declaration: dg.ResourceParam[FailoverDeclaration],
    backup_declaration: dg.ResourceParam[BackupDeclaration],
    region_vaults: dg.ResourceParam[RegionVaults],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Record one row for each region of the run and claim."""
    reader = _Reader(lake, control_store, clock)
    facts: list[TakeoverFacts] = []

    def judge(region: str) -> dict[str, Any]:
        if not facts:  # read once for all regions; what fails is told with each
            fault = "" if not backup_declaration.networks else keys_fault(region_vaults)
            facts.append(
                reader.read(fleet_declaration, failover_declaration, backup_declaration, fault)
            )
        rows = judge_takeover(facts[0], region)
        return {
            **commit_rows(lake, READINESS, region, rows, ReadinessRow, facts[0].now),
            "claims": len(rows),
            "claims_ready": sum(row.verdict == Readiness.READY for row in rows),
            "claims_waived": sum(row.verdict == Readiness.WAIVED for row in rows),
            "claims_not_ready": sum(row.verdict == Readiness.NOT_READY for row in rows),
        }

    yield from record_partitions(context, READINESS, "region", judge)


def keys_fault(vaults: RegionVaults) -> str:
    """Why no wrapping key that is at hand can be used; '' when one can. It is read, not used."""
    try:
        vaults.keks()
    except StateroomError as error:
        return str(error)
    return ""


class _Reader(NamedTuple):
    """Reads what a judgement rests on."""

    lake: Lake
    store: ControlStore
    clock: Clock

    def read(
        self,
        fleet: FleetDeclaration,
        failover: FailoverDeclaration,
        backup: BackupDeclaration,
        fault: str,
    ) -> TakeoverFacts:
        """The newest inventory, the evidence of backups, and who leads."""
        nodes = read_inventory(self.lake, NODES, fleet.regions, Node)
        agents = read_inventory(self.lake, AGENTS, fleet.regions, Agent)
        automation = self.store.automation()
        paused = f"{automation.changed_by}: {automation.reason}" if automation.paused else ""
        return TakeoverFacts(
            nodes=nodes.records,
            agents=agents.records,
            unread={one.region: one.detail for one in (*nodes.unread, *agents.unread)},
            failover=failover,
            copies=read_copies(self.lake, backup.regions),
            backed_up=frozenset(backup.networks if backup.enabled else ()),
            objectives=declared_objectives(backup),
            keys_fault=fault,
            leader=self.store.lease(LEADER_LEASE),
            kept=self.store.controller_view(),
            paused=paused,
            services=len(self.store.services()),
            breakers=self.store.breakers(),
            now=self.clock.now(),
            rules={one.workload: rules_of(one) for one in self.store.workloads()},
        )
