"""The clock of this machine, as the port `fleet.ports.Clock` wants it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """Wall clock in aware UTC, and seconds that never go back."""

    def now(self) -> datetime:
        """Aware UTC wall clock; may jump when the machine's clock is set."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        return time.monotonic()


class SteadyClock:
    """A wall clock that was read once and has gone on evenly since: delays cannot be cut short."""

    def __init__(self) -> None:
        """Read the wall clock."""
        self._started_at = datetime.now(UTC)
        self._started_s = time.monotonic()

    def now(self) -> datetime:
        """Start plus the time that has really passed; differs from the wall clock by its jumps."""
        return self._started_at + timedelta(seconds=time.monotonic() - self._started_s)

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        return time.monotonic()
