"""Moments as whole microseconds since 1970, in which journals compare and count them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_START = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Exact microseconds since 1970."""
    since = moment - _START
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_of(microseconds_since: int) -> datetime:
    """The moment of a number of microseconds."""
    return _START + timedelta(microseconds=microseconds_since)
