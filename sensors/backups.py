"""When backups are taken, copied and proven: on schedule, and at once where waiting costs data."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from fleet.backup import ArtefactDeclaration
from fleet.backup_declaration import BackupDeclaration
from fleet.backup_schedule import (
    FirstLook,
    is_look_due,
    select_first_snapshots,
)
from fleet.backup_tables import SNAPSHOTS
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from ops.backup_jobs import (
    BACKUP_JOB,
    DUTY,
    REPLICATE_JOB,
    asset_config,
    backup_requests,
)
from ops.backups import SNAPSHOT_OP

NEW_NETWORK = "new_network"

ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
COUNTING = [status for status in dg.DagsterRunStatus if status not in ENDED_BADLY]
"""States of a run that does, or will do, what it was started for."""


def newest_run_at(instance: dg.DagsterInstance, job: str, duty: str) -> datetime | None:
    """When the newest run of a duty that did not end badly was requested; None for none."""
    wanted = dg.RunsFilter(job_name=job, tags={DUTY: duty}, statuses=COUNTING)
    found = instance.get_run_records(wanted, limit=1)
    return found[0].create_timestamp if found else None


def covered_networks(instance: dg.DagsterInstance, declaration: BackupDeclaration) -> Sequence[str]:
    """Declared networks of which a snapshot was materialized, in the order of the partitions."""
    taken = instance.get_materialized_partitions(dg.AssetKey(SNAPSHOTS))
    return [one for one in declaration.vault_networks if one in taken]


def snapshot_config(reason: str, *, full: bool = False) -> dict[str, Any]:
    """Run config of a snapshot that nobody asked for in person."""
    config = {"reason": reason, "scheduled": True, "full": full}
    return asset_config(SNAPSHOTS, SNAPSHOT_OP, config)


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
        artefact_declarations: dg.ResourceParam[Sequence[ArtefactDeclaration]],
        control_store: dg.ResourceParam[ControlStore],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SensorResult | dg.SkipReason:
        covered = covered_networks(context.instance, backup_declaration)
        missing = [one for one in backup_declaration.vault_networks if one not in covered]
        last, now = decode_look(context.cursor), clock.now()
        if not is_look_due(last, missing, now):
            return dg.SkipReason(f"{len(missing)} networks without a snapshot")
        waiting = dg.RunsFilter(job_name=BACKUP_JOB, tags={DUTY: NEW_NETWORK}, statuses=UNFINISHED)
        if context.instance.get_runs_count(waiting):
            return dg.SkipReason("a first snapshot is being taken")
        stated = {one.network_id for one in artefact_declarations}
        if set(missing) - stated:
            stated |= {info.network_id for info in control_store.state_infos()}
        due = select_first_snapshots(missing, stated)
        began_at = last.began_at if last and last.missing == tuple(missing) else now
        cursor = encode_look(FirstLook(now, began_at, tuple(missing)))
        if not due:
            context.update_cursor(cursor)
            return dg.SkipReason(f"nothing to back up yet: {', '.join(missing)}")
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
