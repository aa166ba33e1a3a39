"""When indexes are refreshed, scrubbed and tidied up.

The sensor looks at all networks with one read of the control store. What it asks for is keyed by
what the index holds, so that it is asked for once, however often it looks, until the run has ended
one way or the other.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

import dagster as dg

from fleet.errors import StateroomError
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.note_store import NoteBacklog
from fleet.vectors.declaration import VectorDeclaration
from fleet.vectors.health import refresh_due
from ops.vector_jobs import BUILD_JOB, SCRUB_JOB, UPKEEP_JOB, VECTOR_CLASS

SENSOR = "vector_refresh_sensor"
INTERVAL_S = 9
"""Below 10, so that every second pass of the sensor daemon (5 s) starts a tick: with the 30 seconds
that a note waits and some seconds of a run, it is found within a minute."""
LOST_S = 120.0
"""A run that ended without telling how is asked for again after so long. So is one that has begun
and waits for another network's build: the second finds nothing to do. While one is in the queue no
other is asked for, or a build of an hour would leave thirty behind it for each network."""
PARTITION = "dagster/partition"
"""Tag of a run that names its partition."""
RUNS_MAX = 20
"""Networks that one tick asks for; those that wait longest come first."""


def build_refresh_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor of the group.

    Args:
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=SENSOR,
        job_name=BUILD_JOB,
        minimum_interval_seconds=INTERVAL_S,
        default_status=status,
        description="Embeds notes and refreshes indexes when enough notes wait, or long enough.",
    )
    def vector_refresh_sensor(
        context: dg.SensorEvaluationContext,
        control_store: dg.ResourceParam[ControlStore],
        vector_declaration: dg.ResourceParam[VectorDeclaration],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SensorResult | dg.SkipReason:
        most = max((one.thresholds.notes for one in vector_declaration.networks), default=1)
        try:
            backlogs = control_store.note_backlogs(most)
        except StateroomError as error:
            return dg.SkipReason(f"tried again at the next look: {error}")
        queued = queued_networks(context.instance)
        requests, reasons = plan_refreshes(backlogs, vector_declaration, clock.now(), queued)
        if not requests:
            return dg.SkipReason("; ".join(reasons[:5]) or "no network has a note")
        return dg.SensorResult(run_requests=requests)

    return vector_refresh_sensor


def queued_networks(instance: dg.DagsterInstance) -> frozenset[str]:
    """Networks for which a refresh waits in the queue of runs.

    Not those of runs that were made and never queued: nobody ends them when their maker has died.
    """
    queued = [dg.DagsterRunStatus.QUEUED]
    waiting = instance.get_runs(dg.RunsFilter(job_name=BUILD_JOB, statuses=queued))
    return frozenset(run.tags[PARTITION] for run in waiting if PARTITION in run.tags)


def plan_refreshes(
    backlogs: Sequence[NoteBacklog],
    declaration: VectorDeclaration,
    now: datetime,
    queued: Collection[str] = (),
) -> tuple[list[dg.RunRequest], list[str]]:
    """Runs for the networks that are due, those that wait longest first; why the others are not.

    Args:
        backlogs: of one look.
        declaration: thresholds of each network; networks that are not declared are left alone.
        now: the moment of the look.
        queued: networks whose run waits in the queue.
    """
    declared = {one.network_id: one for one in declaration.networks}
    due, reasons = [], []
    for backlog in backlogs:
        if backlog.network_id not in declared:
            continue
        verdict = refresh_due(backlog, declared[backlog.network_id], now)
        if verdict.is_due and backlog.network_id in queued:
            reasons.append(f"{backlog.network_id}: its run waits in the queue")
        elif verdict.is_due:
            due.append((backlog, verdict.reason))
        else:
            reasons.append(f"{backlog.network_id}: {verdict.reason}")
    due.sort(key=lambda one: (one[0].oldest_at or now, one[0].network_id))
    return [_request(backlog, reason, now) for backlog, reason in due[:RUNS_MAX]], reasons


def _request(backlog: NoteBacklog, reason: str, now: datetime) -> dg.RunRequest:
    """One refresh. Its key changes when a refresh has ended, and for a run that died, in time."""
    standing = backlog.standing
    ended = sum(standing.results.values())
    bucket = int(now.timestamp() // LOST_S)
    return dg.RunRequest(
        run_key=f"{backlog.network_id}/{standing.indexed_change}/{ended}/{bucket}",
        job_name=BUILD_JOB,
        partition_key=backlog.network_id,
        tags={**VECTOR_CLASS, "stateroom/reason": reason[:200]},
    )


def build_vector_schedules(
    scrub_cron: str, upkeep_cron: str, *, running: bool
) -> list[dg.ScheduleDefinition]:
    """Scrub and upkeep.

    Args:
        scrub_cron: when all bytes are read, UTC.
        upkeep_cron: when leftovers and old generations are removed, UTC.
        running: whether they run unless somebody stops them in the UI.
    """
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    planned = (
        (SCRUB_JOB, scrub_cron, "Reads every stored byte of all indexes."),
        (UPKEEP_JOB, upkeep_cron, "Removes old generations and leftovers; compares ids and sizes."),
    )
    return [
        dg.ScheduleDefinition(
            name=f"{job.removesuffix('_job')}_schedule",
            job_name=job,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=status,
            description=description,
        )
        for job, cron, description in planned
    ]
