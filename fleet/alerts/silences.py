"""Silences: which alerts nobody is told of, until when, by whose word.

A silence is never endless and never about everything: it ends, and it names a label that an alert
must have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

from fleet.alerts.rules import ALERT_NAME
from fleet.errors import InvalidInputError, NotFoundError, TooLargeError
from fleet.metrics.labels import Labels, Matcher, MatchKind, compiled

FORMAT = 1
SILENCES_MAX = 10_000
"""Kept at a time, also those that are over: the file stays small."""
KEPT_AFTER_END = timedelta(days=5)
"""How long a silence that is over can still be looked up. Source: Alertmanager,
flag `data.retention` (120 h)."""
LONGEST = timedelta(days=366)
COMMENT_MAX_CHARS = 1000
_ID_CHARS = 12
_MATCHER = re.compile(
    r"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(.*?)\s*", re.ASCII | re.DOTALL
)
_WORD = re.compile(r"[a-zA-Z_:][\w:.-]*", re.ASCII)


class Silence(NamedTuple):
    """A word that alerts of some labels are not to be told; times are aware UTC."""

    silence_id: str
    matchers: tuple[Matcher, ...]
    """All must hold."""
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str

    def is_active(self, now: datetime) -> bool:
        """Whether it holds at a moment."""
        return self.starts_at <= now < self.ends_at

    def mutes(self, labels: Labels) -> bool:
        """Whether it is about an alert of these labels."""
        named = dict(labels)
        return all(one.matches(named.get(one.name, "")) for one in self.matchers)


def parse_matcher(text: str) -> Matcher:
    """A matcher as people type it: `severity=warning`, `region=~"eu-.*"`, or the name of an alert.

    Raises:
        InvalidInputError: it is none, or its regular expression does not parse.
    """
    found = _MATCHER.fullmatch(text)
    if found is None:
        if _WORD.fullmatch(text) is None:
            raise InvalidInputError("matcher", text, 'label=value, label=~"regex", != or !~')
        return Matcher(ALERT_NAME, MatchKind.EQUAL, text)
    name, mark, value = found.groups()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        try:
            value = str(json.loads(value))
        except ValueError as error:
            raise InvalidInputError("matcher", text, "a value in plain double quotes") from error
    matcher = Matcher(name, MatchKind(mark), value)
    if matcher.kind in {MatchKind.REGEX, MatchKind.NOT_REGEX}:
        compiled(name, value)
    return matcher


def matcher_text(matcher: Matcher) -> str:
    """As people type it."""
    return f"{matcher.name}{matcher.kind.value}{json.dumps(matcher.value, ensure_ascii=False)}"


def new_silence(
    matchers: Sequence[Matcher],
    starts_at: datetime,
    ends_at: datetime,
    created_by: str,
    comment: str,
) -> Silence:
    """A silence that may be kept; its id derives from what it says, so twice the same is one.

    Raises:
        InvalidInputError: it is about everything, ends before it begins, lasts over a year, or
            nobody answers for it.
    """
    if not any(not one.matches("") for one in matchers):
        raise InvalidInputError(
            "matchers",
            " ".join(map(matcher_text, matchers)),
            "at least one that a missing label does not satisfy: a silence is not about everything",
        )
    if not starts_at < ends_at <= starts_at + LONGEST:
        raise InvalidInputError("ends_at", ends_at.isoformat(), "after the start, within 366 days")
    if not created_by.strip() or not comment.strip():
        raise InvalidInputError("comment", comment, "a name and a reason: others will ask")
    if len(comment) > COMMENT_MAX_CHARS:
        raise InvalidInputError("comment", comment[:40], f"at most {COMMENT_MAX_CHARS} characters")
    ordered = tuple(sorted(set(matchers)))
    said = "\x00".join([*map(matcher_text, ordered), starts_at.isoformat(), created_by])
    digest = blake2b(said.encode(), digest_size=16).hexdigest()
    return Silence(digest[:_ID_CHARS], ordered, starts_at, ends_at, created_by, comment)


def muted(silences: Iterable[Silence], labels: Labels, now: datetime) -> Silence | None:
    """The first silence that holds for an alert; None when it is to be told."""
    return next((one for one in silences if one.is_active(now) and one.mutes(labels)), None)


def with_silence(silences: Iterable[Silence], silence: Silence, now: datetime) -> list[Silence]:
    """All silences worth keeping, and a new one; one of the same id is replaced.

    Raises:
        TooLargeError: there would be more than `SILENCES_MAX`.
    """
    kept = [
        one
        for one in silences
        if one.silence_id != silence.silence_id and now - one.ends_at < KEPT_AFTER_END
    ]
    if len(kept) >= SILENCES_MAX:
        raise TooLargeError(
            f"there are {len(kept)} silences; at most {SILENCES_MAX} are kept",
            hint="Use one silence with a regular expression.",
        )
    return [*kept, silence]


def ended_silence(silences: Iterable[Silence], silence_id: str, now: datetime) -> list[Silence]:
    """All silences, one of them over from now on; ending one that is over changes nothing.

    Raises:
        NotFoundError: there is none of this id.
    """
    found = list(silences)
    if not any(one.silence_id == silence_id for one in found):
        raise NotFoundError(
            f"no silence {silence_id!r}", hint="`stateroom alerts silences` lists them."
        )
    return [
        one._replace(starts_at=min(one.starts_at, now), ends_at=now)
        if one.silence_id == silence_id and one.ends_at > now
        else one
        for one in found
    ]


def encode_silences(silences: Iterable[Silence]) -> str:
    """As a document, in order of ends."""
    rows = [
        {
            "id": one.silence_id,
            "matchers": [list(matcher) for matcher in one.matchers],
            "starts_at": one.starts_at.isoformat(),
            "ends_at": one.ends_at.isoformat(),
            "created_by": one.created_by,
            "comment": one.comment,
        }
        for one in sorted(silences, key=lambda one: (one.ends_at, one.silence_id))
    ]
    return json.dumps({"format": FORMAT, "silences": rows}, ensure_ascii=False, indent=1)


def decode_silences(text: str | None) -> list[Silence]:
    """The silences of a document; none where there is no document.

    Raises:
        InvalidInputError: it is none of ours. It is not taken for empty: a silence that is lost
            wakes people.
    """
    if text is None:
        return []
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise InvalidInputError("silences.format", document["format"], str(FORMAT))
        return [_silence(row) for row in document["silences"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError("silences", text[:80], "a document that Stateroom wrote") from error


def _silence(row: dict[str, Any]) -> Silence:
    matchers = tuple(Matcher(name, MatchKind(kind), value) for name, kind, value in row["matchers"])
    starts_at, ends_at = (datetime.fromisoformat(row[key]) for key in ("starts_at", "ends_at"))
    return Silence(
        row["id"],
        matchers,
        starts_at.astimezone(UTC),
        ends_at.astimezone(UTC),
        row["created_by"],
        row["comment"],
    )
