"""What Dagster has recorded of its own work: the newest tick of each sensor, the latest runs.

Read from the instance's storage, without the definitions, so that it costs no import of them and
is known while the code server is down.
"""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
from dagster import DagsterInstance
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus

from fleet.metrics.exported.automation import RunFact, TickFact

RUNS_MAX = 2000
"""Runs looked at; the newest ones."""
_ON = {InstigatorStatus.RUNNING, InstigatorStatus.DECLARED_IN_CODE}


def newest_ticks(instance: DagsterInstance) -> list[TickFact]:
    """The newest tick of each sensor and schedule that is switched on, by name."""
    found = []
    for state in instance.all_instigator_state(instigator_statuses=_ON):
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        at = datetime.fromtimestamp(ticks[0].timestamp, UTC) if ticks else None
        failed = bool(ticks) and ticks[0].status is TickStatus.FAILURE
        found.append(TickFact(state.instigator_name, at, failed))
    return sorted(found)


def latest_runs(instance: DagsterInstance, since: datetime) -> list[RunFact]:
    """Runs that were asked for since a moment, the newest `RUNS_MAX` of them."""
    runs = instance.get_runs(dg.RunsFilter(created_after=since), limit=RUNS_MAX)
    return [RunFact(run.job_name, run.status.value.lower()) for run in runs]
