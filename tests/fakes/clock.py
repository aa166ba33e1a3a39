"""A clock that moves when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class ManualClock:
    """A `PatientClock` in the test's hand; the wall clock may be set back, time itself not."""

    def __init__(self, now: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        """Start at `now`."""
        self._now = now
        self._monotonic_s = 0.0
        self.pauses: list[float] = []
        """Seconds of every pause so far."""
        self.on_pause: Callable[[], object] = lambda: None
        """What happens in the world during each pause."""
        self.ending = False
        """Whether the process has been asked to end."""

    def now(self) -> datetime:
        """The wall clock."""
        return self._now

    def monotonic_s(self) -> float:
        """Seconds since the clock was made."""
        return self._monotonic_s

    def pause(self, seconds: float) -> bool:
        """Let time pass, and then what happens meanwhile; no real time is spent."""
        self.pauses.append(seconds)
        self.advance(seconds)
        self.on_pause()
        return not self.ending

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back without time passing."""
        self._now += timedelta(seconds=seconds)
