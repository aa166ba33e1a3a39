"""Memory counts by its peaks: one for each agent and day, because running out of it kills.

A day begins with the agent's first sample, not at midnight, and its peak has the time of its end.
A kill at the limit stands as a sample of what would have been enough.

Source: kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender/model/container.go
(addMemorySample, RecordOOM).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray, Int64Array

INTERVAL_MS = 24 * 3_600_000
"""Length of the time that one peak stands for. Source: DefaultMemoryAggregationInterval."""


class Peaks(NamedTuple):
    """Peaks of agents, by (agent, time)."""

    agents: Int64Array
    bytes: FloatArray
    times_ms: Int64Array
    """End of the day that each stands for."""


class Kills(NamedTuple):
    """Kills at the limit of memory."""

    agents: Int64Array
    limits: FloatArray
    """Memory that the agent was allocated, bytes."""
    times_ms: Int64Array


def daily_peaks(agents: Int64Array, used: FloatArray, times_ms: Int64Array) -> Peaks:
    """The highest reading of each agent and day.

    Args:
        agents: a number for each agent.
        used: bytes.
        times_ms: milliseconds since 1970 UTC, in any order.
    """
    if not len(agents):
        return Peaks(agents, used, times_ms)
    begun = np.full(int(np.max(agents)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(begun, agents, times_ms)
    day = (times_ms - begun[agents]) // INTERVAL_MS
    order = np.lexsort((day, agents))
    agents, day, used = agents[order], day[order], used[order]
    starts = np.flatnonzero(np.append(True, (np.diff(agents) != 0) | (np.diff(day) != 0)))
    ends = begun[agents[starts]] + (day[starts] + 1) * INTERVAL_MS
    return Peaks(agents[starts], np.maximum.reduceat(used, starts), ends)


def raise_for_kills(peaks: Peaks, kills: Kills, ratio: float, extra_bytes: int) -> Peaks:
    """The same peaks, with those of the days of kills at least at what would have been enough.

    That is the larger of the limit and the day's peak, times `ratio` or plus `extra_bytes`,
    whichever is more. A kill of an agent without a peak near it stands alone.

    Args:
        peaks: as `daily_peaks` answers them.
        kills: of the same agents.
        ratio: 1.2 says a fifth more.
        extra_bytes: at least so much more.
    """
    found = peaks.bytes.copy()
    lonely: list[tuple[int, float, int]] = []
    begins = np.searchsorted(peaks.agents, kills.agents)
    ends = np.searchsorted(peaks.agents, kills.agents, "right")
    columns = (*(column.tolist() for column in kills), begins.tolist(), ends.tolist())
    for agent, limit, at_ms, begin, end in zip(*columns, strict=True):
        times = peaks.times_ms[begin:end]
        near = np.flatnonzero((times > at_ms) & (times - INTERVAL_MS <= at_ms)) + begin
        seen = float(peaks.bytes[near[0]]) if len(near) else 0.0
        needed = _enough(max(limit, seen), ratio, extra_bytes)
        if len(near):
            found[near[0]] = max(found[near[0]], needed)
        else:
            lonely.append((agent, needed, at_ms))
    more = [np.array([one[column] for one in lonely]) for column in range(3)]
    return Peaks(
        np.append(peaks.agents, more[0]).astype(np.int64),
        np.append(found, more[1]).astype(np.float64),
        np.append(peaks.times_ms, more[2]).astype(np.int64),
    )


def _enough(used: float, ratio: float, extra_bytes: int) -> float:
    return float(max(int(used + extra_bytes), int(used * ratio)))
