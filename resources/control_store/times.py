"""Times as the store keeps them: whole microseconds since 1970 in UTC, exact and sortable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fleet.errors import InvalidInputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(at: datetime) -> int:
    """Microseconds since 1970 of an aware time, without rounding.

    Raises:
        InvalidInputError: the time is naive, so that it means no moment.
    """
    if at.tzinfo is None:
        raise InvalidInputError("time", at, "aware times", hint="Use datetime.now(UTC).")
    return (at - _EPOCH) // _MICROSECOND


def to_us_or_none(at: datetime | None) -> int | None:
    """`to_us`, with None kept."""
    return None if at is None else to_us(at)


def from_us(microseconds: int) -> datetime:
    """The aware UTC time of a stored number."""
    return _EPOCH + timedelta(0, 0, microseconds)


def from_us_or_none(microseconds: int | None) -> datetime | None:
    """`from_us`, with None kept."""
    return None if microseconds is None else _EPOCH + timedelta(0, 0, microseconds)
