"""Failover in `stateroom status`: who decides, what holds it back, what is open how long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from fleet.incident_story import name_subject
from fleet.incidents import IncidentHeader, Severity
from fleet.journal import JournalEntry
from platform_defs.command.controller_standing import Standing, leader_text
from platform_defs.command.moments import utc_text
from platform_defs.command.output import age, cell_text

INCIDENTS_SHOWN = 10


def standing_texts(standing: Standing, now: datetime) -> list[str]:
    """Lines about the controller, and about what is not watched."""
    lines = [f"controller: {cell_text(leader_text(standing))}"]
    frozen = standing.frozen
    if frozen is not None:
        lines.append(f"  ! frozen for {age(frozen.since, now)}: {cell_text(frozen.reason)}")
    switch = standing.automation
    if switch.paused:
        who, why = cell_text(switch.changed_by), cell_text(switch.reason)
        lines.append(f"  ! paused for {age(switch.changed_at, now)} by {who}: {why}")
    lines += [
        f"  under maintenance until {utc_text(mark.until)}: {mark.subject} "
        f"({cell_text(mark.started_by)}: {cell_text(mark.reason)})"
        for mark in standing.maintenances[:INCIDENTS_SHOWN]
    ]
    return lines


def incident_texts(standing: Standing, actions: Sequence[JournalEntry], now: datetime) -> list[str]:
    """The count of what is open, and a line for each incident."""
    ids = {one.incident_id for one in standing.incidents} | {one.action_id for one in actions}
    if not ids:
        return ["open incidents: 0 (no action has started without ending)"]
    lines = [f"open incidents: {len(ids)}"]
    lines += [incident_line(one, now) for one in standing.incidents[:INCIDENTS_SHOWN]]
    hidden = len(standing.incidents) - INCIDENTS_SHOWN
    if hidden > 0:
        lines.append(f"  ... and {hidden} more; `stateroom incidents` lists all")
    return lines


def incident_line(header: IncidentHeader, now: datetime) -> str:
    """One incident: how old, how it stands, what it waits for, who has it."""
    said = f"  {header.incident_id}: {header.state.value} for {age(header.opened_at, now)}"
    if header.waits_for:
        said += f", waits for a person to allow {cell_text(header.waits_for)}"
    by = cell_text(header.acknowledged_by)
    return said + (f", {by} has it" if by else ", nobody has it (`stateroom ack`)")


def standing_findings(standing: Standing, actions: Iterable[JournalEntry]) -> list[str]:
    """What is wrong, one sentence each; actions that the findings name already are left out."""
    named = {one.action_id for one in actions}
    return [
        f"incident {one.incident_id}: {name_subject(one)}: {one.reason}"
        for one in standing.incidents
        if one.incident_id not in named and one.severity == Severity.ERROR
    ]
