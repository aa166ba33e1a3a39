"""What an agent has done since its process began: tasks, requests, tool calls, in counters.

Counters only rise, and begin anew with the process; readers of metrics know that as a reset. They
travel with a heartbeat, every few seconds, when they have changed. Durations are counted into
fixed buckets, so that those of a thousand agents can be added up.
"""

from __future__ import annotations

import _thread
from bisect import bisect_left
from typing import Any

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of durations, in seconds; one more bucket holds what took longer.

Prometheus' default ones, with 0.2 in place of 0.25: alerts ask for 200 and 500 ms.
"""
TOOLS_MAX = 32
"""Tools told apart; calls of any further ones are counted as tool `other` of framework `other`."""
OTHER = ("other", "other")


class Work:
    """Count, failures and durations of one kind of work."""

    __slots__ = ("count", "durations", "errors", "total_s")

    def __init__(self) -> None:
        """Nothing done yet."""
        self.count = 0
        self.errors = 0
        self.total_s = 0.0
        self.durations = [0] * (len(BOUNDS_S) + 1)

    def add(self, duration_s: float, *, ok: bool) -> None:
        """Count one piece of work that took `duration_s` seconds (0 or more)."""
        self.count += 1
        self.errors += not ok
        self.total_s += duration_s
        self.durations[bisect_left(BOUNDS_S, duration_s)] += 1

    def as_dict(self) -> dict[str, Any]:
        """As it travels; `durations` holds a count for each bucket, not running totals."""
        return {
            "count": self.count,
            "errors": self.errors,
            "total_s": self.total_s,
            "durations": list(self.durations),
        }


class Meters:
    """Counters of one process; methods may be called from several threads."""

    def __init__(self) -> None:
        """Nothing done yet."""
        self._lock = _thread.allocate_lock()
        self._tasks = Work()
        self._requests: Work | None = None
        self._tools: dict[tuple[str, str], Work] = {}
        self._sessions: int | None = None
        self._changed = False

    def count_task(self, duration_s: float, *, ok: bool = True) -> None:
        """Count a task; `Agent.run` does so for each step."""
        with self._lock:
            self._tasks.add(duration_s, ok=ok)
            self._changed = True

    def count_request(self, duration_s: float, *, ok: bool = True) -> None:
        """Count a request that somebody made to this agent."""
        with self._lock:
            self._requests = self._requests or Work()
            self._requests.add(duration_s, ok=ok)
            self._changed = True

    def count_tool_call(
        self, framework: str, tool: str, duration_s: float, *, ok: bool = True
    ) -> None:
        """Count a call of a tool.

        Args:
            framework: what the tool belongs to, for example `mcp` or `langchain`; a name.
            tool: its name. At most `TOOLS_MAX` pairs are told apart.
            duration_s: seconds, 0 or more.
            ok: whether it succeeded.
        """
        with self._lock:
            key = (framework, tool)
            if key not in self._tools and len(self._tools) >= TOOLS_MAX:
                key = OTHER
            self._tools.setdefault(key, Work()).add(duration_s, ok=ok)
            self._changed = True

    def set_active_sessions(self, count: int) -> None:
        """Say how many sessions are open now."""
        with self._lock:
            self._sessions = count
            self._changed = True

    def take_changed(self) -> dict[str, Any] | None:
        """All counters as they travel; None when nothing has changed since they were taken."""
        with self._lock:
            if not self._changed:
                return None
            self._changed = False
            value: dict[str, Any] = {"tasks": self._tasks.as_dict()}
            if self._requests is not None:
                value["requests"] = self._requests.as_dict()
            if self._tools:
                value["tools"] = [
                    {"framework": framework, "tool": tool, **work.as_dict()}
                    for (framework, tool), work in self._tools.items()
                ]
            if self._sessions is not None:
                value["active_sessions"] = self._sessions
            return value
