"""The clock of this machine, as the ports `Clock` and `PatientClock` of `fleet` want it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

_ENDING = threading.Event()


def end_pauses() -> None:
    """Let every pause of this process return at once from now on, because the process ends.

    For signal handlers: a thread that pauses would otherwise keep its process from ending.
    """
    _ENDING.set()


class SystemClock:
    """Wall clock in aware UTC, and seconds that never go back."""

    def now(self) -> datetime:
        """Aware UTC wall clock; may jump when the machine's clock is set."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        return time.monotonic()

    def pause(self, seconds: float) -> bool:
        """Sleep; False, at once, when `end_pauses` was called before or meanwhile."""
        return not _ENDING.wait(seconds)


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
