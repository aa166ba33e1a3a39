"""Incidents as the exporter is told of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fleet.incidents import IncidentHeader, IncidentKind, IncidentState, Severity

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ended_incident(kind: IncidentKind, age_s: float, ended_s: float | None) -> IncidentHeader:
    """An incident of region eu, so old at `NOW`; None where it has not ended."""
    ended_at = None if ended_s is None else NOW - timedelta(seconds=ended_s)
    return IncidentHeader(
        f"{kind}-{age_s}",
        kind,
        "eu-1",
        "eu",
        Severity.ERROR,
        IncidentState.OPEN,
        "it is silent",
        NOW - timedelta(seconds=age_s),
        1,
        1,
        ended_at=ended_at,
    )
