"""A clock that moves only when it is told to.

Time is counted in whole microseconds, so that ten steps of 0.1 s are exactly one step of 1 s.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from fleet.errors import InvalidInputError

MICROSECONDS = 1_000_000
"""Microseconds of a second."""

DEFAULT_START = datetime(2026, 1, 1, tzinfo=UTC)
"""A fixed moment, so that a simulation is the same on every day it is run."""

_STEP_MAX_S = 100 * 365 * 86_400.0


def as_microseconds(seconds: float) -> int:
    """Whole microseconds nearest to `seconds`."""
    return round(seconds * MICROSECONDS)


class VirtualClock:
    """Implements `fleet.ports.Clock`; `advance` is the only way in which time passes."""

    def __init__(self, start: datetime = DEFAULT_START) -> None:
        """Begin at `start`, which must be aware."""
        if start.tzinfo is None:
            raise InvalidInputError("start", start, "an aware time, for example with tzinfo=UTC")
        self.start = start.astimezone(UTC)
        self.elapsed_us = 0
        """Microseconds since `start`; never goes back."""

    def now(self) -> datetime:
        """Aware UTC time of the simulation."""
        return self.at(self.elapsed_us)

    def monotonic_s(self) -> float:
        """Seconds since the start of the simulation."""
        return self.elapsed_us / MICROSECONDS

    def at(self, elapsed_us: int) -> datetime:
        """The moment `elapsed_us` after the start (before it, when negative)."""
        return self.start + timedelta(microseconds=elapsed_us)

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Args:
            seconds: not negative; rounded to whole microseconds.

        Raises:
            InvalidInputError: negative, not finite, or more than a hundred years.
        """
        if not (math.isfinite(seconds) and 0.0 <= seconds <= _STEP_MAX_S):
            raise InvalidInputError("seconds", seconds, f"0 to {_STEP_MAX_S:g}")
        self.elapsed_us += as_microseconds(seconds)

    def advance_to(self, elapsed_us: int) -> None:
        """Let time pass up to a moment; nothing happens when it is over already."""
        self.elapsed_us = max(self.elapsed_us, elapsed_us)
