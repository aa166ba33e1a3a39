"""What people order the automation: pause, maintenance, approval of a planned action.

Each has a person and a reason, is judged at every decision, and outlives every controller.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.inventory import Node
from fleet.names import validate_name

MAINTENANCE_MAX = timedelta(days=90)
"""Longest maintenance: a mark that nobody ends must not hide a dead node for ever."""


class Automation(NamedTuple):
    """The one switch: while paused, everything is watched and told, and nothing is moved."""

    paused: bool
    changed_by: str
    """'' when nobody has ever touched it."""
    reason: str
    changed_at: datetime | None
    revision: int
    """How often it was set."""


UNTOUCHED = Automation(paused=False, changed_by="", reason="", changed_at=None, revision=0)


class Maintenance(NamedTuple):
    """A node or region that is being worked on: its silence is expected."""

    subject: str
    """`node/<id>` or `region/<name>`."""
    started_at: datetime
    until: datetime
    """From this moment on the mark means nothing (the end is exclusive)."""
    started_by: str
    reason: str


class ActionApproval(NamedTuple):
    """A person's word for one planned action of one incident; it ends with the incident."""

    incident_id: str
    action: str
    """As the plan names it: `evacuate/eu-central-1`."""
    approved_by: str
    reason: str
    approved_at: datetime


def maintenance_subject(kind: str, name: str) -> str:
    """The subject of a mark.

    Raises:
        InvalidInputError: the kind is neither node nor region, or the name is none.
    """
    if kind not in {"node", "region"}:
        raise InvalidInputError("maintenance.kind", kind, "node or region")
    return f"{kind}/{validate_name('maintenance.name', name)}"


def validate_maintenance(subject: str, until: datetime, now: datetime) -> None:
    """Refuse a mark that would mean nothing, or for too long.

    Raises:
        InvalidInputError: as said; the message names the limit.
    """
    kind, _, name = subject.partition("/")
    maintenance_subject(kind, name)
    if until.tzinfo is None:
        raise InvalidInputError("maintenance.until", until, "aware times")
    if not now < until <= now + MAINTENANCE_MAX:
        raise InvalidInputError(
            "maintenance.until",
            until.isoformat(),
            f"after {now.isoformat()} and at most {MAINTENANCE_MAX.days} days later",
        )


def select_live_maintenances(marks: Iterable[Maintenance], now: datetime) -> list[Maintenance]:
    """The marks that count at `now`, in the given order."""
    return [mark for mark in marks if now < mark.until]


def find_maintenance(
    marks: Iterable[Maintenance], node_id: str, region: str, now: datetime
) -> Maintenance | None:
    """The mark that covers a node, its own before its region's; None when none does."""
    live = {mark.subject: mark for mark in marks if now < mark.until}
    return live.get(f"node/{node_id}") or live.get(f"region/{region}")


def marked_nodes(
    nodes: Iterable[Node], marks: Iterable[Maintenance], now: datetime
) -> frozenset[str]:
    """Nodes that are being worked on, by their own mark or their region's; they take no agents."""
    live = {mark.subject for mark in marks if now < mark.until}
    if not live:
        return frozenset()
    return frozenset(
        node.node_id
        for node in nodes
        if f"node/{node.node_id}" in live or f"region/{node.region}" in live
    )
