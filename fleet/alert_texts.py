"""What an alert about incidents says: one line that fits on a telephone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fleet.incident_story import duration_text
from fleet.incidents import IncidentHeader

NAMES_TOLD_MAX = 10
"""Subjects that an alert about many spells out."""


def first_wish(headers: Iterable[IncidentHeader]) -> str:
    """The first planned action that one of them waits for; '' when none does."""
    return next((header.waits_for for header in headers if header.waits_for), "")


def tell_one(header: IncidentHeader) -> str:
    """One incident: why, how it stands, what is wanted."""
    text = f"{header.reason.strip().rstrip('.')}."
    if header.ended_at is not None:
        lasted = duration_text((header.ended_at - header.opened_at).total_seconds())
        text += f" Already ended after {lasted}: {header.outcome.strip().rstrip('.')}."
    if header.waits_for:
        text += f" It waits for a person to allow `{header.waits_for}`."
    return f"{text} See `stateroom incident {header.incident_id}`."


def tell_many(headers: Sequence[IncidentHeader]) -> str:
    """Several incidents of one kind: who, and why the first."""
    names = sorted(header.subject for header in headers)
    told = ", ".join(names[:NAMES_TOLD_MAX])
    more = f" and {len(names) - NAMES_TOLD_MAX} more" if len(names) > NAMES_TOLD_MAX else ""
    wish = first_wish(headers)
    waits = f" One waits for a person to allow `{wish}`." if wish else ""
    reason = headers[0].reason.strip().rstrip(".")
    return f"{told}{more}. The first: {reason}.{waits} See `stateroom incidents`."


def tell_end(members: Sequence[IncidentHeader], count: int) -> str:
    """How it ended; an incident that is not known any more ended too long ago to say."""
    one = members[0] if len(members) == 1 else None
    if one is not None and one.ended_at is not None:
        lasted = duration_text((one.ended_at - one.opened_at).total_seconds())
        return f"Ended after {lasted}: {one.outcome.strip().rstrip('.')}."
    return "All of them have ended." if count > 1 else "It has ended."
