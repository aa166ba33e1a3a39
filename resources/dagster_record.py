"""What Dagster has recorded of its own work: the newest tick of each sensor, the latest runs.

Read from the instance's storage, without the definitions, so that it costs no import of them and
is known while the code server is down. A storage that does not answer is a StoreUnavailableError.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import dagster as dg
from dagster import DagsterInstance
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus
from sqlalchemy.exc import SQLAlchemyError

from fleet.errors import StoreUnavailableError
from fleet.metrics.exported.automation import RunFact, TickFact
from fleet.metrics.exported.ended import EndedRun
from resources.run_history import FINISHED

RUNS_MAX = 2000
"""Runs looked at; the newest ones."""
_ON = {InstigatorStatus.RUNNING, InstigatorStatus.DECLARED_IN_CODE}


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of Dagster's storage as ours.

    Raises:
        StoreUnavailableError: it cannot be reached or read.
    """
    try:
        yield
    except (dg.DagsterError, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise StoreUnavailableError(
            f"Dagster's storage cannot be read: {reason}",
            hint="`stateroom doctor` checks it; its address is in the instance's dagster.yaml.",
        ) from error


@_translated()
def newest_ticks(instance: DagsterInstance) -> list[TickFact]:
    """The newest tick of each sensor and schedule that is switched on, by name."""
    found = []
    for state in instance.all_instigator_state(instigator_statuses=_ON):
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        at = datetime.fromtimestamp(ticks[0].timestamp, UTC) if ticks else None
        failed = bool(ticks) and ticks[0].status is TickStatus.FAILURE
        found.append(TickFact(state.instigator_name, at, failed))
    return sorted(found)


@_translated()
def latest_runs(instance: DagsterInstance, since: datetime) -> list[RunFact]:
    """Runs that were asked for since a moment, the newest `RUNS_MAX` of them."""
    runs = instance.get_runs(dg.RunsFilter(created_after=since), limit=RUNS_MAX)
    return [RunFact(run.job_name, run.status.value.lower()) for run in runs]


@_translated()
def ended_runs(instance: DagsterInstance, since: datetime) -> list[EndedRun]:
    """Runs that ended since a moment, the newest `RUNS_MAX` of them."""
    wanted = dg.RunsFilter(statuses=FINISHED, updated_after=since)
    found = []
    for record in instance.get_run_records(wanted, limit=RUNS_MAX):
        run = record.dagster_run
        ended_at = record.update_timestamp.astimezone(UTC)
        found.append(EndedRun(run.run_id, run.job_name, run.status.value.lower(), ended_at))
    return found
