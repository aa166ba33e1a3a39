"""Plans which snapshots stay, forgets the others, and frees what nobody needs any more.

The plan is written to the lake and into the vault before anything is forgotten; each step after it
is a record of the log first and a deletion a day later (docs/formats/backup.md). A run that dies
anywhere is made up for by the next: it plans anew at the head of the log.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from fleet.backup_tables import PLAN, PlannedSnapshot
from fleet.errors import StateroomError
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from fleet.retention_guards import RetentionPlan
from fleet.snapshot_fitness import GuardPolicy
from ops.backup_rows import write_rows
from ops.backups import NETWORK
from ops.evidence import number_evidence
from ops.inventory import AFTER
from ops.outcomes import outcomes
from ops.partitions import Recorded, record_partitions
from ops.pools import VAULT_REMOVAL
from ops.shredded_networks import find_shredded, leave_out_shredded
from resources.vault.region_vaults import RegionVaults


class RetentionConfig(dg.Config):
    """What a run of `retention_plan` does."""

    apply: bool = Field(
        default=False,
        description="Forget what the plan forgets and free space; without it, plan only.",
    )


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    pool=VAULT_REMOVAL,
    description="Decide what becomes of each snapshot; where asked to, carry it out.",
)
def retain_snapshots_op(
    context: dg.AssetExecutionContext,
    config: RetentionConfig,
    region_vaults: dg.ResourceParam[RegionVaults],
    control_store: dg.ResourceParam[ControlStore],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Plan, record, and carry out the retention of each network of the run."""

    def retain(network_id: str) -> dict[str, Any]:
        from resources.vault.retention.retention_plan import plan_vault

        home = region_vaults.declaration.home_region
        vault = region_vaults.home(network_id)
        decided = plan_vault(vault, home, region_vaults.declaration.retention, GuardPolicy())
        rows = planned_rows(network_id, decided.plan)
        evidence = write_rows(lake, PLAN, network_id, rows, PlannedSnapshot, clock.now())
        shown: dict[str, Any] = {"applied": config.apply, **_numbers(rows)}
        if decided.plan.alarms:
            shown["alarm_texts"] = [f"{one.text} ({one.guard})" for one in decided.plan.alarms]
        if decided.plan.refused:
            shown["refused"] = decided.plan.refused
        if config.apply:
            shown |= carry_out_retention(region_vaults, network_id, decided)
        return {**shown, **evidence}

    planning = leave_out_shredded(region_vaults, lake, clock, PLAN, PlannedSnapshot, retain)
    yield from record_partitions(context, PLAN, NETWORK, planning)
    if config.apply:
        with outcomes(context.op_execution_context.retry_number):
            trimmed = _trim_changes(region_vaults, control_store, clock.now())
        context.log.info("%d entries of the change log trimmed", trimmed)


def planned_rows(network_id: str, plan: RetentionPlan) -> list[PlannedSnapshot]:
    """The plan as rows, newest snapshot first."""
    alarms: dict[str, list[str]] = defaultdict(list)
    newest = plan.rows[0].snapshot_id if plan.rows else ""
    for alarm in plan.alarms:
        alarms[alarm.snapshot_id or newest].append(f"{alarm.text} ({alarm.guard})")
    return [
        PlannedSnapshot(
            network_id=network_id,
            snapshot_id=row.snapshot_id,
            seq=row.seq,
            taken_at=row.taken_at,
            fate=row.fate.value,
            reason=row.reason,
            rules=row.rules,
            guards=tuple(map(str, row.guards)),
            alarms=tuple(alarms[row.snapshot_id]),
        )
        for row in plan.rows
    ]


def _numbers(rows: Sequence[PlannedSnapshot]) -> Mapping[str, int | float]:
    counts = {f"snapshots_{fate}": 0 for fate in ("keep", "held", "pending", "ineligible")}
    counts["snapshots_forget"] = 0
    for row in rows:
        counts[f"snapshots_{row.fate}"] += 1
    return number_evidence({**counts, "alarms": sum(len(row.alarms) for row in rows)})


def carry_out_retention(vaults: RegionVaults, network_id: str, decided: Any) -> dict[str, Any]:
    """Forget, repack, condemn, sweep and trim: each finds nothing to do when it is repeated.

    Args:
        vaults: of all regions.
        network_id: whose snapshots.
        decided: a `VaultPlan` of the home's vault.

    Returns:
        What was done, in numbers and words.
    """
    from resources.vault.journal.journal_upkeep import trim_journal
    from resources.vault.retention.removal import collect_garbage, sweep
    from resources.vault.retention.repack import repack
    from resources.vault.retention.retention_plan import apply_plan

    vault = vaults.home(network_id)
    outcome = apply_plan(vault, decided)
    repacked = repack(vault)
    condemned = collect_garbage(vault)
    swept = sweep(vault)
    replicas, faults = _sweep_replicas(vaults, network_id)
    trimmed = trim_journal(vault, timedelta(hours=vaults.declaration.journal_keep_hours))
    return {
        "outcome": outcome.reason,
        "snapshots_forgotten": len(outcome.decided.plan.forget) if outcome.applied else 0,
        "packs_repacked": repacked.packs_old,
        "packs_condemned": condemned.condemned,
        "condemned_bytes": condemned.bytes_condemned,
        "objects_swept": swept.objects,
        "swept_bytes": swept.bytes_freed,
        "replica_objects_swept": replicas,
        **({"replicas_not_swept": faults} if faults else {}),
        "segments_trimmed": trimmed.segments,
        "trimmed_bytes": trimmed.bytes_freed,
    }


def _sweep_replicas(vaults: RegionVaults, network_id: str) -> tuple[int, list[str]]:
    """Sweep every other region's copy, each by its own clock; a region that is away waits.

    A region keeps what its own evidence and rules would have kept, whatever the log says (G10): a
    wrong or hostile forget does not take the last good copy along.

    Returns:
        Objects deleted, and what kept a region from it, in words.
    """
    from resources.vault.retention.replica_sweep import condemned_snapshots, sweep_replica
    from resources.vault.retention.retention_plan import protected_from_sweep

    policy, objects, faults = vaults.declaration.retention, 0, []
    for region in vaults.declaration.replica_regions:
        replica = vaults.replica(region, network_id)
        try:
            doomed = condemned_snapshots(replica)
            spared = protected_from_sweep(replica, region, doomed, policy, GuardPolicy())
            objects += sweep_replica(replica, spared=spared.keys()).objects
            faults += [f"{region} keeps {one}: {reason}" for one, reason in spared.items()]
        except StateroomError as error:
            faults.append(f"{region}: {error}")
    return objects, faults


def _trim_changes(vaults: RegionVaults, control_store: ControlStore, now: datetime) -> int:
    """Let go of change log entries that all journals and backups have passed; how many.

    A network without any snapshot has no reader yet: when its first snapshot comes, that reads the
    states themselves, and misses no entry.
    """
    from resources.vault.retention.change_log import trim_change_log

    declared = vaults.declaration.networks
    shredded = find_shredded(vaults, declared)
    networks = {one: vaults.home(one) for one in declared if one not in shredded}
    begun = {one: vault for one, vault in networks.items() if vault.log.refresh().live}
    return trim_change_log(begun, control_store, now)
