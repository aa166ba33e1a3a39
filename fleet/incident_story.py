"""An incident told to the person who was woken by it: what, what now, what is lost, what happened.

The first sentences are the ones that matter at 3 a.m.: what has failed and how it stands, what is
wanted of the reader, what became of the agents. Then each line of the timeline with its time (UTC).
A function of its arguments, so that the same incident is told the same way everywhere.
"""

from __future__ import annotations

from datetime import UTC, datetime

from fleet.incident_timeline import EntryKind, Incident, Losses, TimelineEntry
from fleet.incidents import IncidentHeader, IncidentKind, IncidentState

_COMMANDS = {
    IncidentKind.NODE: "stateroom failover node {subject} --approve",
    IncidentKind.REGION: "stateroom failover region {subject} --approve",
    IncidentKind.FAIL_BACK: "stateroom fail-back {subject} --approve",
}


def tell_incident(incident: Incident, now: datetime) -> list[str]:
    """The story of an incident, a sentence or line each.

    Args:
        incident: with its timeline.
        now: how long things have lasted is counted to this moment.
    """
    header = incident.header
    told = [f"{name_subject(header)}: {_sentence(header.reason)}", tell_state(header, now)]
    told += tell_wishes(header, incident.losses)
    told += tell_losses(incident.losses)
    day = header.opened_at.astimezone(UTC).date()
    for entry in incident.timeline:
        told.append(f"{_clock(entry.began_at, day)}  {_tell_entry(entry, now)}")
    return told


def name_subject(header: IncidentHeader) -> str:
    """What has failed, with its place: `Node node-3 in eu-central-1`."""
    noun = header.kind.value.replace("_", "-").capitalize()
    if header.subject == header.kind.value:  # there is but one
        return f"The {header.subject}"
    place = f" in {header.region}" if header.region not in {"", header.subject} else ""
    return f"{noun} {header.subject}{place}"


def tell_state(header: IncidentHeader, now: datetime) -> str:
    """Since when, and how it stands."""
    began = f"{header.opened_at.astimezone(UTC):%H:%M:%S UTC on %Y-%m-%d}"
    if header.state == IncidentState.ENDED and header.ended_at is not None:
        lasted = duration_text((header.ended_at - header.opened_at).total_seconds())
        return f"It began at {began} and ended after {lasted}: {_sentence(header.outcome)}"
    lasted = duration_text((now - header.opened_at).total_seconds())
    acting = header.state == IncidentState.ACTING
    doing = "it is being acted on" if acting else "nothing has been done yet"
    return f"It began at {began}, {lasted} ago; {doing}."


def tell_wishes(header: IncidentHeader, losses: Losses) -> list[str]:
    """What is wanted of the reader: a decision, an acknowledgement, nothing."""
    told = []
    if header.waits_for:
        known = _COMMANDS.get(header.kind, "stateroom incident {incident_id}")
        command = known.format(**header._asdict())
        told.append(f"It waits for a person to allow `{header.waits_for}`: `{command}`.")
    if header.acknowledged_at is not None:
        said = f": {_sentence(header.note)}" if header.note else "."
        at = f"{header.acknowledged_at.astimezone(UTC):%H:%M:%S}"
        told.append(f"{header.acknowledged_by} has acknowledged it at {at}{said}")
    elif header.state != IncidentState.ENDED:
        told.append(
            f"Nobody has acknowledged it: `stateroom ack {header.incident_id}` stops the paging."
        )
    if losses.parked:
        told.append(
            f"{_count(losses.parked, 'agent is', 'agents are')} parked until somebody makes room "
            "or mends the cause; each row of `stateroom agents` has the reason."
        )
    elif header.state == IncidentState.ENDED:
        told.append("Nothing is left to do for it.")
    return told


def tell_losses(losses: Losses) -> list[str]:
    """What became of the agents and their states."""
    told = []
    if losses.moved:
        told.append(f"{_count(losses.moved, 'agent runs', 'agents run')} elsewhere.")
    if losses.versions or losses.seconds:
        told.append(
            f"Lost: {_count(losses.versions, 'stored version', 'stored versions')}; the oldest "
            f"state that came back was {duration_text(losses.seconds)} old."
        )
    elif losses.moved and not losses.unknown:
        told.append("Each of them has its last acknowledged state: nothing is lost.")
    if not (losses.moved or losses.parked):
        told.append("No agent has been moved.")
    if losses.unknown:
        told.append(f"Of {_count(losses.unknown, 'agent', 'agents')} nobody knows what was lost.")
    return told


def duration_text(seconds: float) -> str:
    """Seconds as a person reads them in a failover: `0.4 s`, `8.4 s`, `95 s`, `12 min`, `5.0 h`."""
    seconds = max(0.0, seconds)  # clocks of two machines may disagree
    for unit, size, digits in (("d", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _tell_entry(entry: TimelineEntry, now: datetime) -> str:
    text = entry.text.strip().rstrip(".")
    if entry.kind == EntryKind.SEEN:
        return f"Seen: {text}."
    if entry.kind == EntryKind.DECIDED:
        by, _, what = entry.step.partition("/")
        if by == "acknowledged":
            return f"Acknowledged by {text}."
        if by == "approved":
            return f"`{what}` was approved by {text}."
        rule = f" (rule `{entry.rule}`)" if entry.rule else ""
        return f"Decided{rule}: {text}."
    return f"{entry.step.replace('_', ' ').capitalize()}: {text}; {_tell_progress(entry, now)}."


def _tell_progress(entry: TimelineEntry, now: datetime) -> str:
    done = entry.parts - entry.open_parts - entry.failed_parts
    parts = f"{done} of {entry.parts} parts done, " if entry.parts > 1 else ""
    if entry.open_parts:
        lasted = duration_text((now - entry.began_at).total_seconds())
        told = f"{parts}still running after {lasted}"
    elif entry.failed_parts:
        told = f"{parts}failed after {duration_text(entry.duration_s or 0.0)}"
    elif entry.parts > 1:
        told = f"{entry.parts} parts done in {duration_text(entry.duration_s or 0.0)}"
    else:
        told = f"done in {duration_text(entry.duration_s or 0.0)}"
    if entry.failed_parts and entry.open_parts:
        told += f", {entry.failed_parts} failed"
    if entry.retried_parts:
        told += f", {entry.retried_parts} at a second try"
    return told


def _clock(at: datetime, day: object) -> str:
    """Time with tenths; with its date when that is not the day on which it all began."""
    moment = at.astimezone(UTC)
    clock = f"{moment:%H:%M:%S}.{moment.microsecond // 100_000}"
    return clock if moment.date() == day else f"{moment:%Y-%m-%d} {clock}"


def _sentence(text: str) -> str:
    stripped = text.strip().rstrip(".")
    return f"{stripped}." if stripped else ""


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
