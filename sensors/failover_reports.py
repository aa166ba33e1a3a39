"""When failover is reported: every three minutes, and as soon as an incident changes."""

import hashlib

import dagster as dg

from fleet.declaration import FleetDeclaration
from fleet.errors import StateroomError
from fleet.ports.control_store import ControlStore
from ops.failover_report_jobs import FAILOVER_REPORT_JOB, report_request

INTERVAL_S = 4
"""Below 5, so that every pass of the sensor daemon (5 s) starts a tick."""

LOOKED_AT_MAX = 200
"""Incidents whose changes are watched for: the newest, and as many open ones."""

WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]


def build_report_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor that asks for a report when an incident begins, is acted on, told or ends.

    Args:
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name="failover_report_sensor",
        job_name=FAILOVER_REPORT_JOB,
        minimum_interval_seconds=INTERVAL_S,
        default_status=status,
        description="Reports an incident at once: when it begins, is acted on, and ends.",
    )
    def failover_report_sensor(
        context: dg.SensorEvaluationContext,
        control_store: dg.ResourceParam[ControlStore],
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            seen = read_standing(control_store)
        except StateroomError as error:
            return dg.SkipReason(f"incidents cannot be read: {error}")
        if seen == (context.cursor or ""):
            return dg.SkipReason("no incident has changed")
        waiting = dg.RunsFilter(job_name=FAILOVER_REPORT_JOB, statuses=WAITING)
        if context.instance.get_runs_count(waiting) > 0:
            return dg.SkipReason("a report is queued already; the next look decides again")
        request = report_request(
            fleet_declaration.regions, f"incidents {seen}", "an incident has changed"
        )
        return dg.SensorResult(run_requests=[request], cursor=seen)

    return failover_report_sensor


def read_standing(store: ControlStore) -> str:
    """A digest of how all watched incidents stand; '' while there never was any."""
    found = {
        one.incident_id: one.revision
        for one in (
            *store.incidents(limit=LOOKED_AT_MAX),
            *store.incidents(open_only=True, limit=LOOKED_AT_MAX),
        )
    }
    if not found:
        return ""
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:32]


def build_report_schedule(*, running: bool) -> dg.ScheduleDefinition:
    """The schedule that reports whether or not something has changed.

    Args:
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED

    @dg.schedule(
        name="failover_report_schedule",
        job_name=FAILOVER_REPORT_JOB,
        cron_schedule="*/3 * * * *",
        execution_timezone="UTC",
        default_status=status,
        description="Reports node health, incidents, placements and readiness every 3 minutes.",
    )
    def failover_report_schedule(
        context: dg.ScheduleEvaluationContext,
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
    ) -> dg.RunRequest:
        at = context.scheduled_execution_time.isoformat()
        return report_request(fleet_declaration.regions, at, "every three minutes")

    return failover_report_schedule
