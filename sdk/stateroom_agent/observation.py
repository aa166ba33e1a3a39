"""What an observer knows: statistics of each quantity, a coarse history, its earlier lives.

It is the agent's state, as JSON, so an observer that is placed on another node goes on counting
where it was.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from stateroom_agent.errors import InvalidSetupError
from stateroom_agent.running_statistics import RunningStatistics

FORMAT = 1
HISTORY_INTERVAL_S = 300
HISTORY_MAX = 13
"""Samples kept: 13 at 5 minutes reach one hour back."""


class Earlier(NamedTuple):
    """A value of the leading quantity some time ago."""

    age_s: float
    value: float


class Observation:
    """Grows with each reading; `dump` and `load` are inverse."""

    def __init__(self) -> None:
        """Start with nothing known."""
        self.lives = 0
        """How often the observer was started."""
        self.tasks = 0
        """Readings tried, in all lives."""
        self.errors = 0
        """Readings that failed, in all lives."""
        self.statistics: dict[str, RunningStatistics] = {}
        self.history: list[tuple[int, float]] = []
        """Seconds since 1970 and value of the leading quantity, oldest first."""

    def add(self, values: dict[str, float], now_s: float) -> None:
        """Take one reading into account; its first value is the leading quantity."""
        for name, value in values.items():
            self.statistics.setdefault(name, RunningStatistics()).add(value)
        if not self.history or now_s - self.history[-1][0] >= HISTORY_INTERVAL_S:
            leading = next(iter(values.values()))
            self.history = [*self.history, (math.floor(now_s), leading)][-HISTORY_MAX:]

    def earlier(self, now_s: float) -> Earlier | None:
        """The oldest value kept, at most about an hour old; None in the first five minutes."""
        for at_s, value in self.history:
            age_s = now_s - at_s
            if HISTORY_INTERVAL_S <= age_s <= HISTORY_INTERVAL_S * HISTORY_MAX:
                return Earlier(age_s, value)
        return None

    def dump(self) -> bytes:
        """The state's bytes; the same knowledge gives the same bytes."""
        value = {
            "format": FORMAT,
            "lives": self.lives,
            "tasks": self.tasks,
            "errors": self.errors,
            "statistics": {name: s.as_dict() for name, s in self.statistics.items()},
            "history": self.history,
        }
        return json.dumps(value, separators=(",", ":")).encode()

    @classmethod
    def load(cls, body: bytes | None) -> Observation:
        """What `dump` wrote; nothing known when there is no state.

        Raises:
            InvalidSetupError: the bytes are not an observer's state.
        """
        if body is None:
            return cls()
        try:
            return cls._from_value(json.loads(body))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InvalidSetupError(
                f"the stored state is not an observer's: {error}",
                "Give this workload another name, or remove the state of its agents.",
            ) from error

    @classmethod
    def _from_value(cls, value: dict[str, Any]) -> Observation:
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']!r}, known is {FORMAT}")
        observation = cls()
        observation.lives = int(value["lives"])
        observation.tasks = int(value["tasks"])
        observation.errors = int(value["errors"])
        for name, numbers in value["statistics"].items():
            observation.statistics[name] = RunningStatistics.from_dict(numbers)
        observation.history = [(int(at_s), float(level)) for at_s, level in value["history"]]
        return observation
