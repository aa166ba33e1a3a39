"""Incidents: something failed, somebody must know, and it must come to an end.

An incident is a header, which the control store changes by compare-and-swap, and a timeline, which
is the action journal under the incident's id. Both survive the controller that wrote them, so the
next one goes on where it stopped. `read_incident` puts the two together.

Invariants: at most one incident of a key has not ended; a header's revision rises by one with each
change and its term never falls; what has ended stays ended.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from string import ascii_letters, digits
from typing import NamedTuple

from fleet.errors import (
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
    StateroomError,
    VersionConflictError,
)
from fleet.names import validate_name, validate_text

TEXT_MAX_CHARS = 2000
"""Longest reason or note: a paragraph on a telephone, not a log file."""

ACTION_MAX_CHARS = 600
"""Longest name of a planned action: its kind, subject and incident."""

ID_MAX_CHARS = 160
"""Longest incident id: a kind, a name and a moment. Tags of Dagster runs take 255."""

_ID_CHARS = frozenset(ascii_letters + digits + "._-")


class IncidentKind(StrEnum):
    """What has failed."""

    NODE = "node"
    REGION = "region"
    AGENT = "agent"
    SERVICE = "service"
    CONTROLLER = "controller"
    """The controller cannot act: it is frozen, or has lost its lease."""
    RUN = "run"
    """A run of a Dagster job failed."""
    ROUTER = "router"
    """A router does not take its tables: requests may go where agents have been."""
    REGISTRY = "registry"
    """The service registry does not answer: routes stay as they are."""
    FAIL_BACK = "fail_back"
    """Agents of a region that has come back go home: a person's order, open until it is done."""


class IncidentState(StrEnum):
    """How far an incident has come."""

    OPEN = "open"
    """Seen; nothing has been done yet."""
    ACTING = "acting"
    """Something is being done about it."""
    ENDED = "ended"
    """Over, for good; the outcome says how."""


class Severity(StrEnum):
    """How soon a person must look, in the words of `Alert.severity`."""

    ERROR = "error"
    """Now."""
    WARN = "warn"
    """Today."""


class IncidentOpening(NamedTuple):
    """What is known when an incident begins."""

    kind: IncidentKind
    subject: str
    """Name of what has failed: `node-3`."""
    region: str
    """Where it is; '' when it is nowhere, as the controller."""
    reason: str
    opened_at: datetime
    term: int = 0
    """Term of the controller that opened it; 0 when no controller did."""
    severity: Severity = Severity.ERROR
    incident_id: str = ""
    """As the decision has named it; '' derives it (`incident_id`)."""


class IncidentHeader(NamedTuple):
    """An incident as the store holds it; the timeline is in the journal under `incident_id`."""

    incident_id: str
    kind: IncidentKind
    subject: str
    region: str
    severity: Severity
    state: IncidentState
    reason: str
    """Why it was opened."""
    opened_at: datetime
    term: int
    """Term of the controller that changed it last."""
    revision: int
    """1 when opened; the next change must name the one it was read at."""
    waits_for: str = ""
    """The planned action that needs a person's approval; '' when nothing waits."""
    outcome: str = ""
    """How it ended, in a sentence; '' before."""
    ended_at: datetime | None = None
    acknowledged_at: datetime | None = None
    """When somebody said that they have it; by the store's clock."""
    acknowledged_by: str = ""
    note: str = ""
    """What that person said."""

    @property
    def key(self) -> str:
        """What is at most once not ended."""
        return incident_key(self.kind, self.subject)


def incident_key(kind: IncidentKind, subject: str) -> str:
    """What an incident is about, in one text; at most one incident of a key has not ended."""
    return f"{kind}/{subject}"


def incident_id(opening: IncidentOpening) -> str:
    """The id that an opening stands for: `node-node-3-20261121T031204`.

    Derived, so that a controller which died after opening and opens again finds its own. It is the
    action id of the journal and may be a file name.
    """
    if opening.incident_id:
        return opening.incident_id
    at = opening.opened_at.astimezone(UTC)
    return f"{opening.kind}-{opening.subject}-{at:%Y%m%dT%H%M%S}"


def validate_opening(opening: IncidentOpening) -> None:
    """Refuse an opening that cannot be stored or told.

    Raises:
        InvalidInputError: no name, no reason, a naive time, or a term below 0.
    """
    validate_name("incident.subject", opening.subject)
    if opening.incident_id and (
        set(opening.incident_id) - _ID_CHARS or len(opening.incident_id) > ID_MAX_CHARS
    ):
        allowed = f"1 to {ID_MAX_CHARS} letters, digits, '.', '_' or '-'"
        raise InvalidInputError("incident.incident_id", opening.incident_id[:80], allowed)
    if opening.region:
        validate_name("incident.region", opening.region)
    validate_words("incident.reason", opening.reason)
    _validate_moment("incident.opened_at", opening.opened_at)
    if opening.term < 0:
        raise InvalidInputError("incident.term", opening.term, "0 or more")


def open_header(opening: IncidentOpening) -> IncidentHeader:
    """The header of an incident that has just begun.

    Raises:
        InvalidInputError: as `validate_opening`.
    """
    validate_opening(opening)
    return IncidentHeader(
        incident_id(opening),
        IncidentKind(opening.kind),
        opening.subject,
        opening.region,
        Severity(opening.severity),
        IncidentState.OPEN,
        opening.reason,
        opening.opened_at,
        opening.term,
        revision=1,
    )


def decide_incident_update(
    stored: IncidentHeader | None, wanted: IncidentHeader
) -> StateroomError | None:
    """Say whether a header may replace the stored one; None means it may.

    The term is judged first: a controller that was replaced has no right to change the incident,
    whatever revision it knows. What says who and when it began never changes, and an
    acknowledgement is given by `acknowledge` alone.

    Args:
        stored: what the store holds; None when there is no such incident.
        wanted: with the revision it was read at.
    """
    if stored is None:
        return _unknown(wanted.incident_id)
    if wanted.term < stored.term:
        return LeaseLostError(
            f"incident {wanted.incident_id}: term {wanted.term} is lower than {stored.term}",
            hint="Another controller leads; this one must stop acting.",
        )
    if wanted.revision != stored.revision:
        return VersionConflictError(
            f"incident {wanted.incident_id}: changed since revision {wanted.revision}, "
            f"it is at {stored.revision}",
            hint="Read the incident again and repeat the change on it.",
        )
    if stored.state == IncidentState.ENDED:
        return InvalidInputError(
            "incident.state", wanted.state, "no change of an incident that has ended"
        )
    return _unfit(stored, wanted)


def _unfit(stored: IncidentHeader, wanted: IncidentHeader) -> InvalidInputError | None:
    """What a change may not hold, whoever makes it."""
    fixed = ("kind", "subject", "region", "reason", "opened_at")
    given = ("acknowledged_at", "acknowledged_by", "note")
    for name in (*fixed, *given):
        if getattr(stored, name) != getattr(wanted, name):
            return InvalidInputError(
                f"incident.{name}", getattr(wanted, name), f"{getattr(stored, name)!r}, as stored"
            )
    ended = wanted.state == IncidentState.ENDED
    if stored.state == IncidentState.ACTING and wanted.state == IncidentState.OPEN:
        return InvalidInputError("incident.state", wanted.state, "acting or ended, once acting")
    if ended != (wanted.ended_at is not None) or ended != bool(wanted.outcome.strip()):
        return InvalidInputError(
            "incident.ended_at",
            (str(wanted.state), wanted.ended_at, wanted.outcome),
            "a moment and an outcome when it has ended, neither before",
        )
    if ended and wanted.waits_for:
        return InvalidInputError("incident.waits_for", wanted.waits_for, "'' once it has ended")
    return None


def validate_header(header: IncidentHeader) -> None:
    """Refuse texts and times that no store can hold, before anything is locked.

    Raises:
        InvalidInputError: as said.
    """
    for name, text in (("outcome", header.outcome), ("waits_for", header.waits_for)):
        limit = ACTION_MAX_CHARS if name == "waits_for" else TEXT_MAX_CHARS
        validate_text(f"incident.{name}", text)
        if len(text) > limit:
            raise InvalidInputError(f"incident.{name}", text[:80] + "...", f"{limit} characters")
    if header.ended_at is not None:
        _validate_moment("incident.ended_at", header.ended_at)


def acknowledge_header(
    stored: IncidentHeader | None, identity: str, by: str, note: str, at: datetime
) -> IncidentHeader:
    """The header once somebody has said that they have it; the first one to say so stays.

    Raises:
        NotFoundError: there is no such incident.
    """
    if stored is None:
        raise _unknown(identity)
    if stored.acknowledged_at is not None:
        return stored
    return stored._replace(
        acknowledged_at=at, acknowledged_by=by, note=note, revision=stored.revision + 1
    )


def require_open(stored: IncidentHeader | None, identity: str) -> IncidentHeader:
    """The incident, when something can still be approved for it.

    Raises:
        NotFoundError: there is no such incident.
        InvalidInputError: it has ended.
    """
    if stored is None:
        raise _unknown(identity)
    if stored.state == IncidentState.ENDED:
        raise InvalidInputError(
            "incident", identity, "an incident that has not ended", hint="`stateroom incidents`"
        )
    return stored


def validate_person(field: str, value: str) -> str:
    """Return the name of a person or program when it may be recorded.

    Raises:
        InvalidInputError: it is blank, over 128 characters or no text.
    """
    if not value.strip() or len(value) > 128:
        raise InvalidInputError(field, value[:80], "a name of 1 to 128 characters")
    return validate_text(field, value)


def validate_words(field: str, value: str, max_chars: int = TEXT_MAX_CHARS) -> str:
    """Return a reason when it says something.

    Raises:
        InvalidInputError: it is blank, longer than `max_chars` or no text.
    """
    if not value.strip() or len(value) > max_chars:
        raise InvalidInputError(field, value[:80], f"a text of 1 to {max_chars} characters")
    return validate_text(field, value)


def validate_note(field: str, value: str) -> str:
    """Return a note, which may be empty.

    Raises:
        InvalidInputError: it is too long or no text.
    """
    return value if not value else validate_words(field, value)


def select_incident(incidents: list[IncidentHeader], wanted: str) -> IncidentHeader:
    """The incident that a person means: by id, by the beginning of one, or by its subject.

    Args:
        incidents: newest first.
        wanted: what was typed; a subject means its newest incident.

    Raises:
        NotFoundError: none, or several ids begin so.
    """
    for one in incidents:
        if wanted in {one.incident_id, one.subject}:
            return one
    alike = [one for one in incidents if wanted and one.incident_id.startswith(wanted)]
    if len(alike) == 1:
        return alike[0]
    found = ", ".join(one.incident_id for one in alike[:3]) or "none"
    raise NotFoundError(
        f"no incident {wanted!r}; ids that begin so: {found}", hint="`stateroom incidents`"
    )


def _validate_moment(field: str, at: datetime) -> None:
    if at.tzinfo is None:
        raise InvalidInputError(field, at, "aware times", hint="Use datetime.now(UTC).")


def _unknown(identity: str) -> NotFoundError:
    return NotFoundError(f"incident {identity} does not exist", hint="`stateroom incidents`")
