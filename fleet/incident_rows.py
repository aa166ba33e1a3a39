"""Incidents as rows and numbers: when each was seen, decided and done, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from fleet.failover_tables import IncidentRow
from fleet.incident_timeline import SILENT, EntryKind, Incident
from fleet.incidents import IncidentHeader, IncidentState
from fleet.inventory_checks import CheckVerdict, Offender, judge

OPEN_MAX = timedelta(hours=1)
"""How long an incident may be open before it is missing an end, unless somebody has it."""

ACKNOWLEDGED_MAX = timedelta(hours=24)
"""The same of one that somebody has acknowledged: a shift and its handover."""

_DECIDED = ("move_node", "evacuate_region", "fail_back")
"""Decisions that something is moved."""


def incident_row(incident: Incident, now: datetime) -> IncidentRow:
    """The row of an incident at a moment.

    Args:
        incident: with its timeline.
        now: the moment of the look.
    """
    header, losses = incident.header, incident.losses
    silent_at = min(
        (one.began_at for one in incident.timeline if _is(one.kind, one.step, SILENT)), default=None
    )
    decided_at = min(
        (one.began_at for one in incident.timeline if _orders(one.kind, one.step)), default=None
    )
    done_at = _done_at(incident)
    began_at = silent_at or header.opened_at
    return IncidentRow(
        **_told(header),
        silent_at=silent_at,
        opened_at=header.opened_at,
        decided_at=decided_at,
        done_at=done_at,
        ended_at=header.ended_at,
        detection_s=_seconds(silent_at, header.opened_at),
        decision_s=_seconds(header.opened_at, decided_at),
        recovery_s=_seconds(began_at, done_at),
        lasted_s=max(0.0, ((header.ended_at or now) - header.opened_at).total_seconds()),
        agents_moved=losses.moved,
        agents_parked=losses.parked,
        versions_lost=losses.versions,
        lost_s=losses.seconds,
        agents_unknown=losses.unknown,
        acknowledged_at=header.acknowledged_at,
        acknowledged_by=header.acknowledged_by,
        note=header.note,
        revision=header.revision,
        looked_at=now,
    )


def _told(header: IncidentHeader) -> dict[str, str]:
    return {
        "incident_id": header.incident_id,
        "kind": header.kind.value,
        "subject": header.subject,
        "region": header.region,
        "severity": header.severity.value,
        "state": header.state.value,
        "reason": header.reason,
        "outcome": header.outcome,
        "waits_for": header.waits_for,
    }


def _is(kind: EntryKind, step: str, what: str) -> bool:
    return kind is EntryKind.SEEN and step == what


def _orders(kind: EntryKind, step: str) -> bool:
    return kind is EntryKind.DECIDED and step.startswith(_DECIDED)


def _done_at(incident: Incident) -> datetime | None:
    """When the last act was done; None while one runs or has failed, or when there is none."""
    acts = [one for one in incident.timeline if one.kind is EntryKind.DONE]
    if not acts or any(one.open_parts or one.failed_parts for one in acts):
        return None
    return max(one.ended_at for one in acts if one.ended_at is not None)


def _seconds(began_at: datetime | None, ended_at: datetime | None) -> float | None:
    """Between two moments of possibly two clocks: never below 0."""
    if began_at is None or ended_at is None:
        return None
    return max(0.0, (ended_at - began_at).total_seconds())


def total_incidents(rows: Sequence[IncidentRow], now: datetime) -> dict[str, int | float]:
    """Numbers that plot: how many, how long the newest took and the worst, what they cost.

    Args:
        rows: newest first.
        now: the moment.
    """
    standing = [row for row in rows if row.ended_at is None]
    acknowledged = sum(row.acknowledged_at is not None for row in standing)
    numbers: dict[str, int | float] = {
        "incidents": len(rows),
        "incidents_open": len(standing),
        "incidents_unacknowledged": len(standing) - acknowledged,
        "incidents_waiting": sum(bool(row.waits_for) for row in standing),
        "oldest_open_s": max(
            ((now - row.opened_at).total_seconds() for row in standing), default=0.0
        ),
        "agents_moved": sum(row.agents_moved for row in rows),
        "agents_parked": sum(row.agents_parked for row in rows),
        "versions_lost": sum(row.versions_lost for row in rows),
        "seconds_lost_worst": max((row.lost_s for row in rows), default=0.0),
    }
    for name in ("detection_s", "decision_s", "recovery_s"):
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        if known:
            numbers |= {f"{name}_newest": known[0], f"{name}_worst": max(known)}
    return numbers


def check_ends(incidents: Iterable[IncidentHeader], now: datetime) -> CheckVerdict:
    """No incident is open longer than its bound.

    Args:
        incidents: those that have not ended.
        now: the moment.
    """
    standing = [one for one in incidents if one.state != IncidentState.ENDED]
    offenders = []
    for one in standing:
        limit = OPEN_MAX if one.acknowledged_at is None else ACKNOWLEDGED_MAX
        age = now - one.opened_at
        if age > limit:
            by = f", {one.acknowledged_by} has it" if one.acknowledged_by else ", nobody has it"
            waits = f", it waits for {one.waits_for}" if one.waits_for else ""
            detail = f"{one.state} for {_hours(age)} of at most {_hours(limit)}{by}{waits}"
            offenders.append(Offender(one.incident_id, one.region, detail))
    claim = "{offenders} of {checked} incidents that have not ended are open for too long"
    return judge(claim, len(standing), offenders)


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.1f} h"
