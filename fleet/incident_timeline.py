"""The timeline of an incident: what was seen, decided and done, folded from its journal.

Steps are named so that a journal entry says what it is: `seen/<what>` and `decided/<what>` are
facts, recorded once with status `done`; any other `<verb>` or `<verb>/<part>` is an act, which is
`started`, and then `done` or `failed`. Parts are batches or single things: `restore/0007`. A step
is recorded once (the journal sees to that), so a repeated run adds nothing.

The fold is a function of the entries alone, in their order; it never fails on an entry that it does
not understand, because it is read when things go wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from fleet.incidents import IncidentHeader
from fleet.journal import JournalEntry

SEEN, DECIDED = "seen", "decided"
SILENT = "silent"
"""What was seen: the last sign of life, dated back."""
ACKNOWLEDGED, APPROVED = "acknowledged", "approved"
_FACTS = {SEEN, DECIDED, ACKNOWLEDGED, APPROVED}


class EntryKind(StrEnum):
    """What a line of a timeline says."""

    SEEN = "seen"
    DECIDED = "decided"
    DONE = "done"


class Losses(NamedTuple):
    """What became of the agents, as the acts reported it."""

    moved: int = 0
    """Agents that run elsewhere now."""
    parked: int = 0
    """Agents that run nowhere, each with a reason."""
    versions: int = 0
    """Acknowledged versions of states that are gone, all agents together."""
    seconds: float = 0.0
    """Age of what came back, of the agent that lost most."""
    unknown: int = 0
    """Agents of which nobody knows what they lost."""


class TimelineEntry(NamedTuple):
    """One line: a fact, or an act with all its parts."""

    kind: EntryKind
    step: str
    """`silent` of `seen/silent`; the verb of an act."""
    text: str
    """The reason as it was recorded last."""
    began_at: datetime
    ended_at: datetime | None
    """None while a part of the act is not done."""
    duration_s: float | None
    """From the beginning of the first part to the end of the last; None as above."""
    parts: int
    """How many parts the act has; 1 of a fact."""
    open_parts: int
    """Parts that were started and are neither done nor failed."""
    failed_parts: int
    """Parts whose last word is `failed`."""
    retried_parts: int
    """Parts that failed and were done after all."""
    losses: Losses = Losses()
    rule: str = ""
    """The rule that limited it, where one did."""


class Incident(NamedTuple):
    """An incident with its story."""

    header: IncidentHeader
    timeline: tuple[TimelineEntry, ...]
    """In the order in which they began."""
    losses: Losses


def fact_entry(
    incident_id: str,
    kind: EntryKind,
    what: str,
    subject: str,
    reason: str,
    at: datetime,
    *,
    rule: str = "",
    facts: Mapping[str, Any] | None = None,
) -> JournalEntry:
    """A journal entry for what was seen or decided.

    Args:
        incident_id: of the incident.
        kind: SEEN or DECIDED.
        what: one word; the second entry of the same word is taken for a repetition.
        subject: the node, region or agent.
        reason: a sentence with figures, without a full stop.
        at: the moment.
        rule: name of the rule that limited a decision.
        facts: what else programs read of it, as fields of the detail.
    """
    assert kind != EntryKind.DONE, "an act is started and then done"
    detail = json.dumps({**({"rule": rule} if rule else {}), **(facts or {})})
    return JournalEntry(incident_id, f"{kind}/{what}", "done", subject, reason, at, None, detail)


def losses_detail(losses: Losses) -> dict[str, int | float]:
    """The losses of an act, as fields of its journal detail; what is nothing is left out."""
    return {name: value for name, value in losses._asdict().items() if value}


def read_incident(header: IncidentHeader, entries: Sequence[JournalEntry]) -> Incident:
    """Put header and journal together.

    Args:
        header: from the store.
        entries: `journal(header.incident_id)`, in commit order.

    Returns:
        Acts with many parts are one line; losses are summed over the acts that are done, so that a
        batch which failed and was repeated counts once.
    """
    groups: dict[tuple[EntryKind, str], list[JournalEntry]] = {}
    for entry in entries:
        groups.setdefault(_place(entry.step), []).append(entry)
    lines = [_line(kind, step, found) for (kind, step), found in groups.items()]
    lines.sort(key=lambda line: line.began_at)
    return Incident(header, tuple(lines), add_losses(line.losses for line in lines))


def add_losses(losses: Iterable[Losses]) -> Losses:
    """Losses together: counts add up, the seconds are those of the worst."""
    total = Losses()
    for one in losses:
        total = Losses(
            total.moved + one.moved,
            total.parked + one.parked,
            total.versions + one.versions,
            max(total.seconds, one.seconds),
            total.unknown + one.unknown,
        )
    return total


def _place(step: str) -> tuple[EntryKind, str]:
    verb, _, rest = step.partition("/")
    if verb in {SEEN, DECIDED}:
        return EntryKind(verb), rest or verb
    if verb in _FACTS:
        return EntryKind.DECIDED, step
    return EntryKind.DONE, verb


def _line(kind: EntryKind, step: str, entries: list[JournalEntry]) -> TimelineEntry:
    parts: dict[str, list[JournalEntry]] = {}
    for entry in entries:
        parts.setdefault(entry.step, []).append(entry)
    began_at = min(_began(entry) for entry in entries)
    last = [_last(found) for found in parts.values()]
    is_open = [entry.status == "started" for entry in last]
    ended_at = None if any(is_open) else max(entry.at for entry in last)
    done = [entry for entry in last if entry.status == "done"]
    details = [_detail(entry) for entry in done]
    return TimelineEntry(
        kind=kind,
        step=step,
        text=max(entries, key=lambda entry: entry.at).reason,
        began_at=began_at,
        ended_at=ended_at,
        duration_s=None if ended_at is None else (ended_at - began_at).total_seconds(),
        parts=len(parts),
        open_parts=sum(is_open),
        failed_parts=sum(entry.status == "failed" for entry in last),
        retried_parts=sum(
            any(one.status == "failed" for one in parts[entry.step]) for entry in done
        ),
        losses=add_losses(map(_losses, details)),
        rule=next((str(found["rule"]) for found in details if found.get("rule")), ""),
    )


def _last(entries: list[JournalEntry]) -> JournalEntry:
    """The word that counts of one part: done is final, whatever was said before or after."""
    return next((entry for entry in entries if entry.status == "done"), entries[-1])


def _began(entry: JournalEntry) -> datetime:
    """When a step began; one that has only its end knows it from its duration."""
    if entry.status == "started" or not entry.duration_s:
        return entry.at
    return entry.at - timedelta(seconds=entry.duration_s)


def _detail(entry: JournalEntry) -> dict[str, Any]:
    try:
        found = json.loads(entry.detail)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _losses(detail: dict[str, Any]) -> Losses:
    counts = {name: _number(detail.get(name)) for name in Losses._fields}
    whole = {name: int(value) for name, value in counts.items() if name != "seconds"}
    return Losses(seconds=counts["seconds"], **whole)


def _number(value: object) -> float:
    """A figure of a detail; what is none counts as nothing, the step's text still tells it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return max(0.0, float(value)) if value == value and abs(value) < 1e18 else 0.0  # noqa: PLR0124
