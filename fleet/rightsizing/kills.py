"""Which agents were killed at their limit of memory, as far as rows of agents tell.

A node reports the signal, not the reason. Signal 9 counts as the limit's when the agent had lately
used most of what it is allocated; any other kill (a drill, an operator) says nothing about memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from fleet.inventory import Agent
from fleet.rightsizing.memory_peaks import INTERVAL_MS, Kills

if TYPE_CHECKING:
    from fleet.rightsizing.advice import Usage

NEAR_RATIO = 0.9
"""Share of the allocation from which on a kill is taken for the limit's."""
_KILLED = "killed by signal 9"


def find_kills(
    agents: Iterable[Agent],
    numbers: Mapping[str, int],
    usage: Usage,
    now: datetime,
    near_ratio: float = NEAR_RATIO,
) -> Kills:
    """Kills at the limit among the last ends of agents.

    Args:
        agents: as their nodes last reported them.
        numbers: number of each agent in `usage`.
        usage: of memory.
        now: kills are dated by the agent's last sign of life, else by this.
        near_ratio: of the allocation.
    """
    now_ms = round(now.timestamp() * 1000)
    lately = usage.times_ms > now_ms - INTERVAL_MS
    peaks = np.zeros(len(numbers))
    np.maximum.at(peaks, usage.agents[lately], usage.values[lately])
    found = []
    for agent in agents:
        number = numbers.get(agent.agent_id)
        if number is None or _KILLED not in agent.reason:
            continue
        if peaks[number] >= near_ratio * agent.memory_bytes > 0:
            at = agent.heartbeat_at or now
            found.append((number, float(agent.memory_bytes), round(at.timestamp() * 1000)))
    return Kills(
        np.array([one[0] for one in found], np.int64),
        np.array([one[1] for one in found], np.float64),
        np.array([one[2] for one in found], np.int64),
    )
