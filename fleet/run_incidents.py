"""Failed failover runs as incidents: opened once for each run, ended when their cause is gone."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from fleet.incidents import (
    IncidentHeader,
    IncidentKind,
    IncidentOpening,
    IncidentState,
)

REASON_MAX_CHARS = 500
"""Of a reason; the run's log has everything."""


class FailedRun(NamedTuple):
    """A run that ended in failure."""

    run_id: str
    job: str
    failure: str
    """What went wrong, in its own words."""
    incident_id: str
    """Of the incident that it acted on; '' when its tags name none."""
    failed_at: datetime


def run_incident_id(run_id: str) -> str:
    """The id of a failed run's incident: a run has one, however often it is seen."""
    return f"run-{run_id}"


def opening_of(run: FailedRun, acted_on: IncidentHeader | None) -> IncidentOpening:
    """The incident of a failed run.

    Args:
        run: what failed.
        acted_on: the incident that it was launched for, when the store has it.
    """
    words = " ".join(run.failure.replace("\x00", "").split()) or "no reason was given"
    reason = f"{run.job} failed for {run.incident_id or 'no incident'}: {words}"
    return IncidentOpening(
        kind=IncidentKind.RUN,
        subject=run.run_id,
        region="" if acted_on is None else acted_on.region,
        reason=reason[:REASON_MAX_CHARS],
        opened_at=run.failed_at,
        incident_id=run_incident_id(run.run_id),
    )


def decide_ending(header: IncidentHeader, acted_on: IncidentHeader | None, succeeded: str) -> str:
    """How the incident of a failed run ends now, in words; '' while it does not.

    Args:
        header: of the run's incident.
        acted_on: the incident that the run was launched for, when the store has it.
        succeeded: id of a later run for the same incident that succeeded; '' for none.
    """
    if header.state == IncidentState.ENDED:
        return ""
    if succeeded:
        return f"run {succeeded} did for the same incident what this one could not"
    if acted_on is not None and acted_on.state == IncidentState.ENDED:
        return f"{acted_on.incident_id} has ended: {acted_on.outcome}"
    if header.acknowledged_at is not None:
        return f"{header.acknowledged_by} has taken note of it"
    return ""
