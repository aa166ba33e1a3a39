"""The event queue, the seeded generator and the record of what happened.

Events run in the order (time, sequence of planning). Both are independent of how often anybody
looks or how time is sliced, and so is every draw of the generator.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Callable
from itertools import islice
from random import Random
from typing import NamedTuple

from fleet.errors import NotFoundError


class TrueEvent(NamedTuple):
    """Something that really happened, whether or not anybody could see it."""

    at_us: int
    kind: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.at_us / 1e6:.6f} {self.kind} {self.subject} {self.detail}".rstrip()


class EventQueue:
    """Runs planned actions in order; the time is that of the running action."""

    def __init__(self, seed: int, events_kept: int) -> None:
        """Start at 0 with a generator of its own."""
        self.now_us = 0
        self.random = Random(seed)
        self.handled = 0
        """Actions run so far."""
        self.recorded = 0
        """Events of the true history so far, kept or not."""
        self.history: deque[TrueEvent] = deque(maxlen=events_kept)
        self._digest = hashlib.sha256()
        self._planned: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0

    def plan(self, at_us: int, action: Callable[[], None]) -> None:
        """Run `action` at `at_us`, or next when that is over."""
        self._sequence += 1
        heapq.heappush(self._planned, (max(at_us, self.now_us), self._sequence, action))

    def run_until(self, until_us: int) -> None:
        """Run everything planned up to and including `until_us`; never goes back in time."""
        planned = self._planned
        while planned and planned[0][0] <= until_us:
            self.now_us, _, action = heapq.heappop(planned)
            self.handled += 1
            action()
        self.now_us = max(self.now_us, until_us)

    def next_us(self) -> int | None:
        """When the next action is planned; None when nothing is."""
        return self._planned[0][0] if self._planned else None

    def record(self, kind: str, subject: str, detail: str = "") -> None:
        """Add to the true history, of which the newest are kept and all are digested."""
        event = TrueEvent(self.now_us, kind, subject, detail)
        self.recorded += 1
        self.history.append(event)
        self._digest.update(f"{self.now_us} {kind} {subject} {detail}\n".encode())

    def since(self, recorded: int) -> list[TrueEvent]:
        """What has happened after the first `recorded` events, oldest first.

        Args:
            recorded: the value of `recorded` at the last look; 0 for everything.

        Raises:
            NotFoundError: some of it is not kept any more; look more often, or keep more events.
        """
        fresh = self.recorded - recorded
        if fresh > len(self.history):
            raise NotFoundError(
                f"{fresh} events have happened, {len(self.history)} are kept",
                hint="Look more often, or raise `events_kept` of the cluster.",
            )
        return list(islice(reversed(self.history), fresh))[::-1]

    def digest(self) -> str:
        """SHA-256 of the whole history so far, hexadecimal."""
        return self._digest.hexdigest()
