"""Moments as people write them: ISO 8601 with a zone, or `2 minutes ago`. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from fleet.errors import InvalidInputError

_UNITS = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(second|minute|hour|day)s?\s+ago", re.ASCII | re.IGNORECASE)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(second|minute|hour|day)s?", re.ASCII | re.IGNORECASE)
ALLOWED = "a time with zone, such as 2026-11-20T14:03:00Z, or N seconds|minutes|hours|days ago"


def parse_moment(field: str, text: str, now: datetime) -> datetime:
    """Read a moment, in UTC.

    Args:
        field: what the error should call it: `--at`.
        text: what was written.
        now: what `ago` counts from, aware.

    Raises:
        InvalidInputError: it is no moment, or has no zone; the hint says how to write it.
    """
    written = text.strip()
    ago = _AGO.fullmatch(written)
    try:
        if ago:
            return (now - float(ago[1]) * _UNITS[ago[2].lower()]).astimezone(UTC)
        found = datetime.fromisoformat(written)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(field, text, ALLOWED) from error
    raise InvalidInputError(
        field,
        text,
        ALLOWED,
        hint=f"Say in which zone: {found.isoformat()}Z is UTC, {found.isoformat()}+02:00 is two "
        "hours ahead of it.",
    )


def parse_span(field: str, text: str) -> timedelta:
    """Read a length of time: `90 minutes`, `2 hours`, `1 day`.

    Args:
        field: what the error should call it: `--for`.
        text: what was written.

    Raises:
        InvalidInputError: it is none, or nobody can count so far.
    """
    found = _SPAN.fullmatch(text.strip())
    allowed = "N seconds|minutes|hours|days"
    if found is None:
        raise InvalidInputError(field, text, allowed)
    try:
        return float(found[1]) * _UNITS[found[2].lower()]
    except OverflowError as error:
        raise InvalidInputError(field, text, allowed) from error


def utc_text(moment: datetime | None) -> str:
    """A moment to the second in UTC, as it is written back to `--at`; `-` for none."""
    if moment is None:
        return "-"
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def span_text(seconds: float | None) -> str:
    """A length of time in the largest unit that keeps it readable; `-` for none."""
    if seconds is None:
        return "-"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if unit == "s" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
