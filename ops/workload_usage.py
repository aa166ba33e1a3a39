"""What the agents of each workload have used, read from the metric store in columns.

CPU is asked as a rate at even steps, memory as the maximum of each hour. Both are answered from
rollups where there are any, and time is cut into pieces that fit into memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from fleet.inventory import Agent
from fleet.inventory_checks import HOLDING_PHASES
from fleet.ports.metric_store import MetricReader
from fleet.rightsizing.records import Allocation

if TYPE_CHECKING:
    from fleet.promql.answer import Answer
    from fleet.rightsizing.advice import Usage

CPU_METRIC, MEMORY_METRIC = "agent_cpu_seconds_total", "agent_memory_usage_bytes"
MINUTE_MS = 60_000
CPU_STEPS_MIN = (5, 15, 30, 60)
"""Minutes between two readings of CPU: the first that keeps all of them below `READINGS_MAX`."""
MEMORY_STEP_MIN = 60
READINGS_MAX = 20_000_000
"""Of one resource, over all agents and the whole time: 640 MB in columns."""
ANSWER_MAX = 4_000_000
"""Values of one question."""


class WorkloadUsage(NamedTuple):
    """Readings of both resources, and how far two readings of an agent lie apart."""

    cpu: Usage
    cpu_step_min: int
    memory: Usage
    memory_step_min: int
    numbers: dict[str, int]
    """Agent -> its number in the columns."""


def allocations_of(agents: Iterable[Agent]) -> list[Allocation]:
    """What the agents of each workload are allocated, by network and workload.

    Agents that hold nothing any more (completed, stopped, failed) do not count.
    """
    counts: dict[tuple[str, str], int] = defaultdict(int)
    cpu: dict[tuple[str, str], int] = defaultdict(int)
    memory: dict[tuple[str, str], int] = defaultdict(int)
    for agent in agents:
        if agent.phase in HOLDING_PHASES:
            key = (agent.network_id, agent.workload)
            counts[key] += 1
            cpu[key] = max(cpu[key], agent.cpu_milli)
            memory[key] = max(memory[key], agent.memory_bytes)
    return [Allocation(*key, counts[key], cpu[key], memory[key]) for key in sorted(counts)]


def read_usage(
    reader: MetricReader, allocations: Sequence[Allocation], days: int, now: datetime
) -> WorkloadUsage:
    """Readings of the last days of every agent whose workload is among the allocations.

    Raises:
        TransientError: the samples cannot be read now.
        TooLargeError: over a limit of the store.
    """
    rows = {(one.network_id, one.workload): row for row, one in enumerate(allocations)}
    numbers: dict[str, int] = {}
    end_ms = round(now.timestamp() * 1000)
    series = _series_count(reader, CPU_METRIC, end_ms - days * 24 * 60 * MINUTE_MS, end_ms)
    step_min = cpu_step_min(series, days)
    cpu = _readings(reader, f"rate({CPU_METRIC}[{step_min}m])", step_min, days, end_ms, series)
    series = _series_count(reader, MEMORY_METRIC, end_ms - days * 24 * 60 * MINUTE_MS, end_ms)
    query = f"max_over_time({MEMORY_METRIC}[{MEMORY_STEP_MIN}m])"
    memory = _readings(reader, query, MEMORY_STEP_MIN, days, end_ms, series)
    return WorkloadUsage(
        _columns(cpu, rows, numbers),
        step_min,
        _columns(memory, rows, numbers),
        MEMORY_STEP_MIN,
        numbers,
    )


def cpu_step_min(series: int, days: int) -> int:
    """Minutes between two readings of CPU: fine for small fleets, never too many in all."""
    for step in CPU_STEPS_MIN:
        if series * days * 24 * 60 // step <= READINGS_MAX:
            return step
    return CPU_STEPS_MIN[-1]


def _series_count(reader: MetricReader, metric: str, start_ms: int, end_ms: int) -> int:
    from fleet.metrics.labels import METRIC_NAME, Matcher, MatchKind

    found = reader.select([Matcher(METRIC_NAME, MatchKind.EQUAL, metric)], start_ms, end_ms)
    return len(found.ids)


def _readings(
    reader: MetricReader, query: str, step_min: int, days: int, end_ms: int, series: int
) -> Iterator[Answer]:
    """Answers of pieces of the time, oldest first; steps lie on multiples of the step."""
    from fleet.promql.engine import PromqlEngine

    if not series:
        return
    engine = PromqlEngine(reader)
    step_ms = step_min * MINUTE_MS
    last = end_ms // step_ms * step_ms
    first = last - days * 24 * 60 * MINUTE_MS + step_ms
    piece = max(1, min(ANSWER_MAX // series, 10_000)) * step_ms
    for begin in range(first, last + 1, piece):
        yield engine.range(query, begin, min(begin + piece - step_ms, last), step_ms)


def _columns(
    answers: Iterable[Answer], rows: dict[tuple[str, str], int], numbers: dict[str, int]
) -> Usage:
    """Answers as columns in order of time; series of unknown workloads are left out."""
    import numpy as np

    from fleet.rightsizing.advice import Usage

    pieces = []
    for answer in answers:
        workloads = np.full(len(answer.labels), -1, np.int64)
        agents = np.zeros(len(answer.labels), np.int64)
        for number, labels in enumerate(answer.labels):
            named = dict(labels)
            row = rows.get((named.get("network", ""), named.get("workload", "")))
            if row is not None:
                workloads[number] = row
                agents[number] = numbers.setdefault(named.get("agent", ""), len(numbers))
        present = answer.present & (workloads >= 0)[:, None] & (answer.values >= 0)
        steps, series = np.nonzero(present.T)
        read = answer.values[series, steps]
        pieces.append((workloads[series], agents[series], read, answer.times_ms[steps]))
    if not pieces:
        nothing = np.empty(0, np.int64)
        return Usage(nothing, nothing, np.empty(0), nothing)
    return Usage(*(np.concatenate([piece[part] for piece in pieces]) for part in range(4)))
