"""Which target is scraped when: each at its own offset in its interval, whatever the others do."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fleet.metrics.targets import ScrapeTarget, check_distinct, next_due_ms


class DueScrape(NamedTuple):
    """A scrape whose time has come."""

    due_ms: int
    target: ScrapeTarget


class ScrapeSchedule:
    """The due times of all targets; a target that was missed is next due in its next interval."""

    def __init__(self) -> None:
        """Without targets."""
        self._targets: dict[ScrapeTarget, int] = {}
        self._due: list[tuple[int, int, ScrapeTarget]] = []
        self._entered = 0

    @property
    def targets(self) -> Sequence[ScrapeTarget]:
        """All targets."""
        return list(self._targets)

    def replace(self, targets: Iterable[ScrapeTarget], now_ms: int) -> list[ScrapeTarget]:
        """Have these targets from now on; those that stay keep their times.

        Returns:
            The targets that are gone.

        Raises:
            InvalidInputError: two of them have the same labels; nothing is changed.
        """
        wanted = dict.fromkeys(targets)
        check_distinct(wanted)
        gone = [target for target in self._targets if target not in wanted]
        for target in gone:
            del self._targets[target]
        for target in wanted:
            if target not in self._targets:
                self._enter(target, now_ms)
        return gone

    def take_due(self, now_ms: int) -> list[DueScrape]:
        """Take out what is due, each target at most once, with the last time it was due.

        When the clock was set back, all targets begin anew from the time that it shows.
        """
        if self._due and self._due[0][0] > now_ms + self._due[0][2].interval_ms:
            for target in self._targets:  # the clock was set back
                self._enter(target, now_ms)
        found = []
        while self._due and self._due[0][0] <= now_ms:
            due_ms, entry, target = heapq.heappop(self._due)
            if self._targets.get(target) != entry:
                continue
            missed = (now_ms - due_ms) // target.interval_ms
            found.append(DueScrape(due_ms + missed * target.interval_ms, target))
            self._enter(target, now_ms)
        return found

    def next_due_ms(self) -> int | None:
        """When to look again; None without targets. It may be early, never late."""
        return self._due[0][0] if self._due else None

    def _enter(self, target: ScrapeTarget, now_ms: int) -> None:
        self._entered += 1
        self._targets[target] = self._entered
        heapq.heappush(self._due, (next_due_ms(target, now_ms), self._entered, target))
