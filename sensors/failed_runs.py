"""Failed failover runs become incidents, and end with them; people are told as of any incident.

A plain sensor instead of Dagster's run-failure sensor: that one passes over a run when the control
store does not answer at that moment, and takes a few runs per tick. This one looks again.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from fleet.errors import StateroomError, VersionConflictError
from fleet.incidents import IncidentHeader, IncidentKind, IncidentState
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.run_incidents import FailedRun, decide_ending, opening_of, run_incident_id
from ops.failover_jobs import FAILOVER_JOB, INCIDENT, REGION_FAILOVER_JOB

INTERVAL_S = 4
"""Below 5, so that every pass of the sensor daemon (5 s) starts a tick."""

JOBS = (FAILOVER_JOB, REGION_FAILOVER_JOB)

OVERLAP = timedelta(minutes=1)
"""Looked at again: runs are dated before they are stored, and an incident is opened once anyway."""

FIRST_LOOK = timedelta(hours=1)
"""How far back the first look goes."""

RUNS_MAX = 50
"""Runs of one job in one look; the next goes on behind them."""


def build_failed_run_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor that opens and ends incidents of runs.

    Args:
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name="failed_run_sensor",
        minimum_interval_seconds=INTERVAL_S,
        default_status=status,
        description="Opens an incident for each failed run of a failover; people are told of it.",
    )
    def failed_run_sensor(
        context: dg.SensorEvaluationContext,
        control_store: dg.ResourceParam[ControlStore],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SkipReason:
        try:
            cursor = decode_moment(context.cursor) or datetime.now(UTC) - FIRST_LOOK
            seen_until, opened = open_incidents(context.instance, control_store, cursor)
            ended = end_incidents(context.instance, control_store, clock.now())
        except StateroomError as error:
            return dg.SkipReason(f"tried again at the next look: {error}")
        context.update_cursor(seen_until.isoformat())
        return dg.SkipReason(f"opened: {_named(opened)}; ended: {_named(ended)}")

    return failed_run_sensor


def decode_moment(cursor: str | None) -> datetime | None:
    """How far the last look came; None from an unknown cursor."""
    try:
        return datetime.fromisoformat(cursor or "")
    except ValueError:
        return None


def open_incidents(
    instance: dg.DagsterInstance, store: ControlStore, since: datetime
) -> tuple[datetime, list[str]]:
    """Open an incident for each run that failed since then and has none.

    Args:
        instance: of Dagster.
        store: holds the incidents.
        since: how far the last look came, by Dagster's clock.

    Returns:
        How far this look came, and the incidents that are new.

    Raises:
        StoreUnavailableError: the control store does not answer; look again from `since`.
    """
    until, opened = since, []
    for job in JOBS:
        filters = dg.RunsFilter(
            job_name=job, statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since - OVERLAP
        )
        records = instance.get_run_records(
            filters, limit=RUNS_MAX, order_by="update_timestamp", ascending=True
        )
        for record in records:
            failed = _failed_run(instance, record)
            until = max(until, record.update_timestamp.astimezone(UTC))
            if store.incident(run_incident_id(failed.run_id)) is None:
                acted_on = store.incident(failed.incident_id) if failed.incident_id else None
                opened.append(store.open_incident(opening_of(failed, acted_on)).incident_id)
    return until, opened


def _failed_run(instance: dg.DagsterInstance, record: dg.RunRecord) -> FailedRun:
    run = record.dagster_run
    return FailedRun(
        run.run_id,
        run.job_name,
        _failure(instance, run.run_id),
        run.tags.get(INCIDENT, ""),
        record.update_timestamp.astimezone(UTC),
    )


def _failure(instance: dg.DagsterInstance, run_id: str) -> str:
    """The words of the first failed step, or of the run itself."""
    wanted = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    records = instance.get_records_for_run(run_id, of_type=wanted, limit=10).records
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.STEP_FAILURE:
            user = event.step_failure_data.user_failure_data
            said = user.description if user is not None else None
            error = event.step_failure_data.error
            return f"{event.step_key}: {said or (error.message if error else event.message)}"
        if event.message:
            return event.message
    return ""


def end_incidents(instance: dg.DagsterInstance, store: ControlStore, now: datetime) -> list[str]:
    """End the incidents of failed runs whose cause is gone, or that somebody has taken note of.

    Raises:
        StoreUnavailableError: the control store does not answer.
    """
    ended = []
    for header in store.incidents(open_only=True, limit=1000):
        if header.kind != IncidentKind.RUN:
            continue
        outcome = _ending(instance, store, header)
        if outcome:
            changed = header._replace(
                state=IncidentState.ENDED, ended_at=max(now, header.opened_at), outcome=outcome
            )
            try:
                store.update_incident(changed)
            except VersionConflictError:
                continue  # somebody acknowledged it in this moment; the next look ends it
            ended.append(header.incident_id)
    return ended


def _ending(instance: dg.DagsterInstance, store: ControlStore, header: IncidentHeader) -> str:
    run = instance.get_run_by_id(header.subject)
    parent = "" if run is None else run.tags.get(INCIDENT, "")
    if not parent:
        return decide_ending(header, None, "")
    later = dg.RunsFilter(
        tags={INCIDENT: parent},
        statuses=[dg.DagsterRunStatus.SUCCESS],
        updated_after=header.opened_at,
    )
    succeeded: Sequence[dg.DagsterRun] = instance.get_runs(later, limit=1)
    return decide_ending(header, store.incident(parent), succeeded[0].run_id if succeeded else "")


def _named(found: Iterable[str]) -> str:
    return ", ".join(found) or "none"
