"""Where time comes from outside `fleet/`."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from outside `fleet/`."""

    def now(self) -> datetime:
        """Aware UTC wall clock; may jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...


class PatientClock(Clock, Protocol):
    """A clock that can also be waited on, so that tests of what waits need no real time."""

    def pause(self, seconds: float) -> bool:
        """Let time pass.

        Returns:
            True when the time is over; False, perhaps at once, when the process has been asked to
            end: the caller should finish.
        """
        ...
