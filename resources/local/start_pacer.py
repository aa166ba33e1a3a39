"""Starts many agents a few at a time.

A thousand agents that start at once are a thousand processes that want the CPU for some
milliseconds each, and their node's one supervisor would wait its turn behind all of them: long
enough to miss its heartbeats and lose its lease. So a start is given out only while fewer than
WINDOW earlier ones are under way. The first ones of a batch, and single ones, never wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WINDOW = 32
"""Starts under way at most: keeps 16 cores busy, and is over in 50 ms on two."""
LOOK_INTERVAL_S = 0.005
"""Between two looks whether starts are over, while others wait."""
SETTLE_S = 1.0
"""A start that has not settled by then does not hold up others any longer."""


class StartPacer:
    """A queue of agent_ids with a window; lives on the event loop's thread."""

    def __init__(self, start: Callable[[str], None], is_settled: Callable[[str], bool]) -> None:
        """Wait for nothing yet.

        Args:
            start: starts an agent for real.
            is_settled: whether a started agent has come up, or has ended.
        """
        self._start = start
        self._is_settled = is_settled
        self._waiting: dict[str, None] = {}
        self._under_way: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, agent_id: str) -> None:
        """Start this agent now, or when its turn comes."""
        self._waiting[agent_id] = None
        self._pump()

    def is_waiting(self, agent_id: str) -> bool:
        """Whether an agent's turn has not come yet."""
        return agent_id in self._waiting

    def drop(self, agent_id: str) -> bool:
        """Take back a start that was not given out yet; False when it was."""
        if agent_id not in self._waiting:
            return False
        del self._waiting[agent_id]
        return True

    def _pump(self) -> None:
        if len(self._under_way) >= WINDOW:
            self._settle()
        while self._waiting and len(self._under_way) < WINDOW:
            agent_id = next(iter(self._waiting))
            del self._waiting[agent_id]
            self._under_way[agent_id] = asyncio.get_running_loop().time()
            self._start(agent_id)
        if self._waiting and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LOOK_INTERVAL_S, self._look)

    def _look(self) -> None:
        self._timer = None
        self._settle()
        self._pump()

    def _settle(self) -> None:
        oldest_s = asyncio.get_running_loop().time() - SETTLE_S
        self._under_way = {
            agent_id: since_s
            for agent_id, since_s in self._under_way.items()
            if since_s > oldest_s and not self._is_settled(agent_id)
        }
