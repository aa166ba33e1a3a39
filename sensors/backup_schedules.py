"""When backups are due: one schedule for each duty, with the cron that the settings give it.

After a downtime the latest missed tick of each is made up for, once (`fleet.backup_schedule`).
"""

from enum import StrEnum
from typing import Any, NamedTuple

import dagster as dg

from fleet.backup_declaration import PLATFORM_NETWORK, BackupDeclaration
from fleet.backup_schedule import BackupCrons, decide_catch_up
from fleet.ports.clock import Clock
from ops.backup_jobs import (
    BACKUP_JOB,
    DRILL_JOB,
    OBJECTIVES_JOB,
    RESTORE_TEST_JOB,
    RETENTION_JOB,
    SCRUB_JOB,
    VERIFY_JOB,
    backup_requests,
)
from sensors.backups import covered_networks, newest_run_at, snapshot_config

NIGHTLY = "nightly"

OBJECTIVES_CRON = "*/15 * * * *"
"""Evidence ages without anything running: a quarter of an hour is the most that a stale claim stays
green."""


class Scope(StrEnum):
    """What a duty is about."""

    REGIONS = "regions"
    NETWORKS = "networks"
    """All networks that have a snapshot, the platform's own too."""
    AGENTS = "agent networks"
    PLATFORM = "the platform's own network"


class Duty(NamedTuple):
    """Something that falls due again and again."""

    name: str
    job: str
    cron: str
    scope: Scope
    description: str


def backup_duties(crons: BackupCrons) -> list[Duty]:
    """Every duty of the group."""
    return [
        Duty(
            "snapshot",
            BACKUP_JOB,
            crons.snapshot,
            Scope.AGENTS,
            "Backs up what has changed, of every network that has a snapshot already.",
        ),
        Duty(
            NIGHTLY,
            BACKUP_JOB,
            crons.nightly,
            Scope.NETWORKS,
            "Takes full snapshots: every file is read again, whatever its times say.",
        ),
        Duty(
            "control_store",
            BACKUP_JOB,
            crons.control_store,
            Scope.PLATFORM,
            "Backs up the fleet's own stores: control store, lake, artefacts of no network.",
        ),
        Duty(
            "retention",
            RETENTION_JOB,
            crons.retention,
            Scope.NETWORKS,
            "Applies the retention plan, frees space, trims journal and change log.",
        ),
        Duty(
            "verify_structure",
            VERIFY_JOB,
            crons.structure,
            Scope.REGIONS,
            "Proves that every region's copy is whole (V1).",
        ),
        Duty(
            "scrub",
            SCRUB_JOB,
            crons.scrub,
            Scope.REGIONS,
            "Hashes stored bytes (V2), opens content (V3), heals from other regions.",
        ),
        Duty(
            "restore_test",
            RESTORE_TEST_JOB,
            crons.restore_test,
            Scope.REGIONS,
            "Restores the newest snapshot and an older one, and opens them (V4).",
        ),
        Duty(
            "drill",
            DRILL_JOB,
            crons.drill,
            Scope.REGIONS,
            "Brings each region's copy back with the recovery key alone (V5).",
        ),
        Duty(
            "recovery_objectives",
            OBJECTIVES_JOB,
            OBJECTIVES_CRON,
            Scope.REGIONS,
            "Judges every claim about backups anew: evidence must turn red by age alone.",
        ),
    ]


def build_backup_schedules(crons: BackupCrons, *, running: bool) -> list[dg.ScheduleDefinition]:
    """The schedules of the group.

    Args:
        crons: when each duty falls due, UTC.
        running: whether they run unless somebody stops them in the UI.
    """
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return [_schedule(duty, status) for duty in backup_duties(crons)]


def _schedule(duty: Duty, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{duty.name}_schedule",
        job_name=duty.job,
        cron_schedule=duty.cron,
        execution_timezone="UTC",
        default_status=status,
        description=duty.description,
    )
    def schedule(
        context: dg.ScheduleEvaluationContext,
        backup_declaration: dg.ResourceParam[BackupDeclaration],
        clock: dg.ResourceParam[Clock],
    ) -> list[dg.RunRequest] | dg.SkipReason:
        declared = due = backup_declaration.regions
        if duty.scope != Scope.REGIONS:
            declared = backup_declaration.vault_networks
            covered = covered_networks(context.instance, backup_declaration)
            due = tuple(one for one in covered if _is_meant(duty.scope, one))
        if not due:
            return dg.SkipReason("no network has a snapshot yet; its first one needs no schedule")
        at = context.scheduled_execution_time
        newest = newest_run_at(context.instance, duty.job, duty.name)
        verdict = decide_catch_up(at, newest, clock.now())
        if not verdict.request:
            return dg.SkipReason(verdict.reason)
        key = f"{duty.name} {at.isoformat()}"
        config = _config(duty, verdict.reason)
        return backup_requests(duty.job, declared, due, key, duty.name, verdict.reason, config)

    return schedule


def _config(duty: Duty, reason: str) -> dict[str, Any] | None:
    """Run config where the job's own does not say enough."""
    if duty.job != BACKUP_JOB:
        return None
    return snapshot_config(reason, full=duty.name == NIGHTLY)


def _is_meant(scope: Scope, network_id: str) -> bool:
    """Whether a duty of this scope is about a network."""
    if scope == Scope.NETWORKS:
        return True
    return (network_id == PLATFORM_NETWORK) == (scope == Scope.PLATFORM)
