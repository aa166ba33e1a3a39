"""When to look at which agents of a node again: soon, or at a moment; a needless look does no harm.

Lives on the event loop's thread only. What happens at once is handled together, so that a storm of
exits costs one plan.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import datetime


class AgentAlarms:
    """Names agents once their time has come.

    Args:
        now: wall clock that does not jump.
        look: called on the loop with the agents whose time has come.
    """

    def __init__(self, now: Callable[[], datetime], look: Callable[[set[str]], object]) -> None:
        """Nothing is due."""
        self._now, self._look = now, look
        self._changed: set[str] = set()
        self._soon_handle: asyncio.Handle | None = None
        self._due: list[tuple[datetime, str]] = []
        self._timer: asyncio.TimerHandle | None = None

    def soon(self, agent_id: str) -> None:
        """Look at an agent once the events at hand are handled."""
        self._changed.add(agent_id)
        if self._soon_handle is None:
            self._soon_handle = asyncio.get_running_loop().call_soon(self._look_now)

    def at(self, due: datetime, agent_id: str) -> None:
        """Look at an agent at that moment."""
        heapq.heappush(self._due, (due, agent_id))
        if self._due[0] == (due, agent_id):
            self._set_timer()

    def forget_soon(self) -> None:
        """All agents are looked at now; those of a later moment stay."""
        self._changed.clear()

    def _look_now(self) -> None:
        self._soon_handle = None
        changed, self._changed = self._changed, set()
        self._look(changed)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, (self._due[0][0] - self._now()).total_seconds())
        self._timer = asyncio.get_running_loop().call_later(delay_s + 0.001, self._wake)

    def _wake(self) -> None:
        self._timer, now = None, self._now()
        while self._due and self._due[0][0] <= now:
            self.soon(heapq.heappop(self._due)[1])
        if self._due:
            self._set_timer()
