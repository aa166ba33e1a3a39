"""Incidents for tests: headers, journals, and the whole story of a node that died at night."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from fleet.incident_timeline import EntryKind, Losses, fact_entry, losses_detail
from fleet.incidents import (
    IncidentHeader,
    IncidentKind,
    IncidentOpening,
    IncidentState,
    Severity,
    open_header,
)
from fleet.journal import JournalEntry

AT = datetime(2026, 3, 1, 3, 12, 4, 512345, tzinfo=UTC)


def later(seconds: float) -> datetime:
    """A moment after the night's beginning."""
    return AT + timedelta(seconds=seconds)


def header_of(
    subject: str = "node-3",
    kind: IncidentKind = IncidentKind.NODE,
    region: str = "eu",
    opened_s: float = 0.0,
    severity: Severity = Severity.ERROR,
) -> IncidentHeader:
    """An incident that has just begun."""
    reason = "no report for 9.0 s, 3 of 4 observers say dead"
    opening = IncidentOpening(kind, subject, region, reason, later(opened_s), 4, severity)
    return open_header(opening)


def ended(header: IncidentHeader, after_s: float = 8.4, outcome: str = "") -> IncidentHeader:
    """The same, over."""
    return header._replace(
        state=IncidentState.ENDED,
        ended_at=header.opened_at + timedelta(seconds=after_s),
        outcome=outcome or "its agents run elsewhere or are parked",
    )


def act(
    step: str,
    status: str,
    at_s: float,
    duration_s: float | None = None,
    losses: Losses | None = None,
    reason: str = "24 agents of node-3",
) -> JournalEntry:
    """A step of an act."""
    detail = json.dumps(losses_detail(losses)) if losses else "{}"
    return JournalEntry(
        "node-node-3", step, status, "node-3", reason, later(at_s), duration_s, detail
    )


def fact(kind: EntryKind, what: str, reason: str, at_s: float, rule: str = "") -> JournalEntry:
    """Something that was seen or decided."""
    return fact_entry("node-node-3", kind, what, "node-3", reason, later(at_s), rule=rule)


def night() -> list[JournalEntry]:
    """A node dies; its agents are moved in three batches, one of them at a second try."""
    return [
        fact(EntryKind.SEEN, "silent", "no report for 9.0 s", -1.5),
        fact(EntryKind.SEEN, "votes", "3 of 4 observers in 2 domains say dead", 0.0),
        fact(EntryKind.DECIDED, "move", "move 24 agents under term 4", 0.1, "vote_majority"),
        act("fence", "started", 0.2, reason="the lease of node-3 ran out"),
        act("fence", "done", 0.4, 0.2, reason="the lease of node-3 ran out"),
        act("restore/0001", "started", 0.5),
        act("restore/0002", "started", 0.5),
        act("restore/0001", "done", 1.5, 1.0, Losses(moved=10)),
        act("restore/0002", "failed", 1.6, 1.1, Losses(moved=9)),
        act("restore/0003", "started", 1.6),
        act("restore/0002", "done", 2.6, 1.0, Losses(moved=10, versions=3, seconds=4.2)),
        act("restore/0003", "done", 3.1, 1.5, Losses(moved=2, parked=2, unknown=1)),
        act("start_agents", "started", 3.2),
        act("start_agents", "done", 8.3, 5.1),
    ]
