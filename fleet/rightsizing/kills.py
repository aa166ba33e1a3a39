"""Which agents were killed at their limit of memory, as far as rows of agents tell.

`OOMKilled` is Kubernetes' word for it. A local node reports only the signal: 9 counts as the
limit's when the agent had lately used most of what it is allocated; any other kill (a drill, an
operator) says nothing about memory. A row of an agent is soon another one, so kills are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.inventory import Agent
from fleet.rightsizing.memory_peaks import INTERVAL_MS, Kills

if TYPE_CHECKING:
    from fleet.rightsizing.advice import Usage

NEAR_RATIO = 0.9
"""Share of the allocation from which on a kill is taken for the limit's."""
_CERTAIN, _POSSIBLE = "OOMKilled", "killed by signal 9"


class MemoryKill(NamedTuple):
    """One kill at the limit of memory."""

    agent_id: str
    network_id: str
    workload: str
    region: str
    epoch: int
    restarts: int
    """Under this epoch, when it was seen: the same epoch and number are the same kill."""
    limit_bytes: int
    """Memory that the agent was allocated."""
    killed_at: datetime
    reason: str


def find_kills(
    agents: Iterable[Agent],
    numbers: Mapping[str, int],
    usage: Usage,
    now: datetime,
    near_ratio: float = NEAR_RATIO,
) -> list[MemoryKill]:
    """Kills at the limit among the last ends of agents whose memory was measured.

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
        if number is None or not peaks[number]:
            continue
        near = peaks[number] >= near_ratio * agent.memory_bytes > 0
        if _CERTAIN in agent.reason or (_POSSIBLE in agent.reason and near):
            at = agent.heartbeat_at or now
            found.append(
                MemoryKill(
                    agent.agent_id,
                    agent.network_id,
                    agent.workload,
                    agent.region,
                    agent.epoch,
                    agent.restarts,
                    agent.memory_bytes,
                    at,
                    agent.reason,
                )
            )
    return found


def distinct_kills(kills: Iterable[MemoryKill]) -> list[MemoryKill]:
    """Each kill once, as it was first seen: a failed agent shows the same one at every look."""
    found: dict[tuple[str, int, int], MemoryKill] = {}
    for one in kills:
        found.setdefault((one.agent_id, one.epoch, one.restarts), one)
    return list(found.values())


def kill_columns(kills: Iterable[MemoryKill], numbers: Mapping[str, int], usage: Usage) -> Kills:
    """Kills of the agents that have readings of memory, as `raise_for_kills` takes them."""
    measured = set(np.unique(usage.agents).tolist())
    known = [
        (numbers[one.agent_id], one.limit_bytes, round(one.killed_at.timestamp() * 1000))
        for one in kills
        if numbers.get(one.agent_id) in measured
    ]
    return Kills(
        np.array([one[0] for one in known], np.int64),
        np.array([one[1] for one in known], np.float64),
        np.array([one[2] for one in known], np.int64),
    )
