"""When backups are taken, copied and proven: on schedule, and at once where waiting costs data."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from fleet.backup_declaration import BackupDeclaration
from fleet.backup_schedule import (
    BackupCrons,
    FirstLook,
    decide_catch_up,
    is_look_due,
    select_first_snapshots,
)
from fleet.backup_tables import SNAPSHOTS
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from ops.backup_jobs import (
    BACKUP_JOB,
    DUTY,
    OBJECTIVES_JOB,
    REPLICATE_JOB,
    SCRUB_JOB,
    VERIFY_JOB,
    asset_config,
    backup_requests,
)
from ops.backups import SNAPSHOT_OP

HOURLY, NEW_NETWORK = "hourly-snapshot", "new-network"

ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
COUNTING = [status for status in dg.DagsterRunStatus if status not in ENDED_BADLY]
"""States of a run that does, or will do, what it was started for."""

OBJECTIVES_CRON = "*/15 * * * *"
"""Evidence ages without anything running: a quarter of an hour is the most that a stale claim stays
green."""


def newest_run_at(instance: dg.DagsterInstance, job: str, duty: str) -> datetime | None:
    """When the newest run of a duty that did not end badly was requested; None for none."""
    wanted = dg.RunsFilter(job_name=job, tags={DUTY: duty}, statuses=COUNTING)
    found = instance.get_run_records(wanted, limit=1)
    return found[0].create_timestamp if found else None


def covered_networks(instance: dg.DagsterInstance, declaration: BackupDeclaration) -> Sequence[str]:
    """Declared networks of which a snapshot was materialized, in the order of the partitions."""
    taken = instance.get_materialized_partitions(dg.AssetKey(SNAPSHOTS))
    return [one for one in declaration.vault_networks if one in taken]


def build_backup_schedules(crons: BackupCrons, *, running: bool) -> list[dg.ScheduleDefinition]:
    """The schedules of the group.

    Args:
        crons: when each duty falls due, UTC.
        running: whether they run unless somebody stops them in the UI.
    """
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return [
        _snapshot_schedule(crons.snapshot, status),
        _region_schedule(
            "verify_structure_schedule",
            VERIFY_JOB,
            crons.structure,
            status,
            "Proves hourly that every region's copy is whole (V1).",
        ),
        _region_schedule(
            "scrub_schedule",
            SCRUB_JOB,
            crons.scrub,
            status,
            "Hashes stored bytes (V2) and opens content (V3).",
        ),
        _region_schedule(
            "recovery_objectives_schedule",
            OBJECTIVES_JOB,
            OBJECTIVES_CRON,
            status,
            "Judges every claim about backups anew: evidence must turn red by age alone.",
        ),
    ]


def _snapshot_schedule(cron: str, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="snapshot_schedule",
        job_name=BACKUP_JOB,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=status,
        description="Backs up what has changed, of every network that has a snapshot already.",
    )
    def snapshot_schedule(
        context: dg.ScheduleEvaluationContext,
        backup_declaration: dg.ResourceParam[BackupDeclaration],
        clock: dg.ResourceParam[Clock],
    ) -> list[dg.RunRequest] | dg.SkipReason:
        due = covered_networks(context.instance, backup_declaration)
        if not due:
            return dg.SkipReason("no network has a snapshot yet; its first one needs no schedule")
        at = context.scheduled_execution_time
        newest = newest_run_at(context.instance, BACKUP_JOB, HOURLY)
        verdict = decide_catch_up(at, newest, clock.now())
        if not verdict.request:
            return dg.SkipReason(verdict.reason)
        return backup_requests(
            BACKUP_JOB,
            backup_declaration.vault_networks,
            due,
            f"{HOURLY} {at.isoformat()}",
            HOURLY,
            verdict.reason,
            snapshot_config(verdict.reason),
        )

    return snapshot_schedule


def snapshot_config(reason: str) -> dict[str, Any]:
    """Run config of a snapshot that nobody asked for in person."""
    return asset_config(SNAPSHOTS, SNAPSHOT_OP, {"reason": reason, "scheduled": True})


def _region_schedule(
    name: str, job: str, cron: str, status: dg.DefaultScheduleStatus, description: str
) -> dg.ScheduleDefinition:
    """A schedule of a job over all regions."""

    @dg.schedule(
        name=name,
        job_name=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=status,
        description=description,
    )
    def schedule(
        context: dg.ScheduleEvaluationContext,
        backup_declaration: dg.ResourceParam[BackupDeclaration],
        clock: dg.ResourceParam[Clock],
    ) -> list[dg.RunRequest] | dg.SkipReason:
        at = context.scheduled_execution_time
        verdict = decide_catch_up(at, newest_run_at(context.instance, job, name), clock.now())
        if not verdict.request:
            return dg.SkipReason(verdict.reason)
        regions = backup_declaration.regions
        return backup_requests(
            job, regions, regions, f"{name} {at.isoformat()}", name, verdict.reason
        )

    return schedule


def build_backup_sensors(*, running: bool) -> list[dg.SensorDefinition]:
    """The sensors of the group.

    Args:
        running: whether they run unless somebody stops them in the UI.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
    return [_first_snapshot_sensor(status), _replicate_sensor(status)]


def _first_snapshot_sensor(status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.sensor(
        name="first_snapshot_sensor",
        job_name=BACKUP_JOB,
        minimum_interval_seconds=4,
        default_status=status,
        description="Backs up a network for the first time as soon as its agents have states.",
    )
    def first_snapshot_sensor(
        context: dg.SensorEvaluationContext,
        backup_declaration: dg.ResourceParam[BackupDeclaration],
        control_store: dg.ResourceParam[ControlStore],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SensorResult | dg.SkipReason:
        covered = covered_networks(context.instance, backup_declaration)
        missing = [one for one in backup_declaration.networks if one not in covered]
        last, now = decode_look(context.cursor), clock.now()
        if not is_look_due(last, missing, now):
            return dg.SkipReason(f"{len(missing)} networks without a snapshot")
        waiting = dg.RunsFilter(job_name=BACKUP_JOB, tags={DUTY: NEW_NETWORK}, statuses=UNFINISHED)
        if context.instance.get_runs_count(waiting):
            return dg.SkipReason("a first snapshot is being taken")
        stated = {info.network_id for info in control_store.state_infos()}
        due = select_first_snapshots(missing, stated)
        began_at = last.began_at if last and last.missing == tuple(missing) else now
        cursor = encode_look(FirstLook(now, began_at, tuple(missing)))
        if not due:
            context.update_cursor(cursor)
            return dg.SkipReason(f"no agent of {', '.join(missing)} has a state yet")
        reason = "the network had no snapshot yet"
        requests = backup_requests(
            BACKUP_JOB,
            backup_declaration.vault_networks,
            due,
            f"{NEW_NETWORK} {now.isoformat()}",
            NEW_NETWORK,
            reason,
            snapshot_config(reason),
        )
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return first_snapshot_sensor


UNFINISHED = [
    *WAITING,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def encode_look(look: FirstLook) -> str:
    """A look as the sensor's cursor."""
    return json.dumps([look.looked_at.isoformat(), look.began_at.isoformat(), list(look.missing)])


def decode_look(cursor: str | None) -> FirstLook | None:
    """The look in a cursor; None for none, or for one that another version wrote."""
    try:
        looked, began, missing = json.loads(cursor or "")
        return FirstLook(
            datetime.fromisoformat(looked), datetime.fromisoformat(began), tuple(missing)
        )
    except (ValueError, TypeError):
        return None


def _replicate_sensor(status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.sensor(
        name="replicate_sensor",
        job_name=REPLICATE_JOB,
        minimum_interval_seconds=4,
        default_status=status,
        description="Copies each committed snapshot to the other regions, and proves the copies.",
    )
    def replicate_sensor(
        context: dg.SensorEvaluationContext,
        backup_declaration: dg.ResourceParam[BackupDeclaration],
    ) -> dg.SensorResult | dg.SkipReason:
        newest = context.instance.fetch_materializations(dg.AssetKey(SNAPSHOTS), limit=1).records
        seen = int(context.cursor or 0)
        if not newest or newest[0].storage_id <= seen:
            return dg.SkipReason("no snapshot since the last one")
        waiting = dg.RunsFilter(job_name=REPLICATE_JOB, statuses=WAITING)
        if context.instance.get_runs_count(waiting):
            return dg.SkipReason("a replication is queued already; it will take this snapshot too")
        number = newest[0].storage_id
        regions = backup_declaration.regions
        requests = backup_requests(
            REPLICATE_JOB,
            regions,
            regions,
            f"snapshot {number}",
            "replicate",
            f"snapshot of {newest[0].partition_key} was committed",
        )
        return dg.SensorResult(run_requests=requests, cursor=str(number))

    return replicate_sensor
