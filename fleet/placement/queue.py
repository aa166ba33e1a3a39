"""Who is started, placed or stopped next: a queue by priority in which nobody starves.

Whoever waits rises by one priority each `age_s`, so that an agent of low priority is served before
newcomers of a high one, once it has waited long enough. What has failed comes back after a delay
that doubles. Time is an argument; two queues that are told the same hand out the same.
"""

from __future__ import annotations

import heapq
import itertools
from typing import NamedTuple

from fleet.errors import InvalidInputError

AGE_S = 60.0
"""Waiting this long is worth one priority."""


class Waiting(NamedTuple):
    """An agent that waits for its turn."""

    agent_id: str
    priority: int
    since_s: float
    """When it began to wait, in seconds of any clock; kept over failed attempts."""
    attempts: int = 0


class LifecycleQueue:
    """Agents that wait, the most important first; O(log agents) for each that comes or goes."""

    def __init__(
        self, *, age_s: float = AGE_S, delay_s: float = 1.0, delay_max_s: float = 300.0
    ) -> None:
        """Nobody waits.

        Args:
            age_s: waiting so long is worth one priority.
            delay_s: after the first failed attempt; doubles with each.
            delay_max_s: longest delay.

        Raises:
            InvalidInputError: an age or a delay that is not above 0.
        """
        for name, value in (("age_s", age_s), ("delay_s", delay_s), ("delay_max_s", delay_max_s)):
            if not value > 0:
                raise InvalidInputError(name, value, "more than 0 seconds")
        self._age_s, self._delay_s, self._delay_max_s = age_s, delay_s, delay_max_s
        self._numbers = itertools.count()
        self._known: dict[str, tuple[int, Waiting]] = {}
        self._ready: list[tuple[float, str, int]] = []
        self._delayed: list[tuple[float, str, int]] = []

    def __len__(self) -> int:
        return len(self._known)

    def put(self, agent_id: str, priority: int, now_s: float) -> None:
        """Let an agent wait; one that waits already keeps its place, and takes the new priority."""
        before = self._known.get(agent_id)
        if before is not None and before[1].priority == priority:
            return
        since_s = now_s if before is None else before[1].since_s
        self._add_ready(Waiting(agent_id, priority, since_s, before[1].attempts if before else 0))

    def remove(self, agent_id: str) -> None:
        """Forget an agent; nothing happens when it does not wait."""
        self._known.pop(agent_id, None)

    def take(self, now_s: float, limit: int) -> list[Waiting]:
        """Remove and return those whose turn it is, at most `limit`, the most important first."""
        while self._delayed and self._delayed[0][0] <= now_s:
            _, agent_id, number = heapq.heappop(self._delayed)
            if self._is_current(agent_id, number):
                self._add_ready(self._known[agent_id][1])
        taken: list[Waiting] = []
        while self._ready and len(taken) < limit:
            _, agent_id, number = heapq.heappop(self._ready)
            if self._is_current(agent_id, number):
                taken.append(self._known.pop(agent_id)[1])
        return taken

    def fail(self, one: Waiting, now_s: float) -> float:
        """Let one that was taken wait again, after a delay that doubles with its attempts.

        Returns:
            When it is ready, in seconds of the same clock.
        """
        ready_s = now_s + min(self._delay_max_s, self._delay_s * 2.0 ** min(one.attempts, 60))
        number = self._remember(one._replace(attempts=one.attempts + 1))
        heapq.heappush(self._delayed, (ready_s, one.agent_id, number))
        return ready_s

    def _add_ready(self, one: Waiting) -> None:
        # Priority plus time waited: between two that wait it never changes, so it can be a key.
        key = one.since_s / self._age_s - one.priority
        heapq.heappush(self._ready, (key, one.agent_id, self._remember(one)))

    def _remember(self, one: Waiting) -> int:
        number = next(self._numbers)
        self._known[one.agent_id] = (number, one)
        return number

    def _is_current(self, agent_id: str, number: int) -> bool:
        known = self._known.get(agent_id)
        return known is not None and known[0] == number
