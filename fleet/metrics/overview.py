"""The fleet at a glance: some twenty numbers, the answers to questions in PromQL.

What was not measured is left out: an overview without a number says that nobody knows it, and one
with a 0 says that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet.errors import TooLargeError
from fleet.metrics.vectors import InstantVector
from fleet.ports.query_engine import QueryEngine

REGIONS_MAX = 20
"""Regions that have numbers of their own, in order of name; the totals are of all."""


class Question(NamedTuple):
    """One number, or one for each region and their sum."""

    name: str
    """With its unit last."""
    expr: str
    """PromQL; a single element, or with `by_region` one for each `region`."""
    by_region: bool = False
    recorded: str = ""
    """The same of what a shipped rule records; asked first, `expr` only where that has nothing."""
    zero_beside: str = ""
    """Name of a number that was asked before: where it is known, no series at all counts as 0."""


class Overview(NamedTuple):
    """What is known of a moment."""

    numbers: Mapping[str, float]
    """In the order of the questions, those of regions last: `tasks per second in us-west-2`."""
    left_out: Mapping[str, str]
    """Name of a number to why it could not be asked for: too many series."""


_FAILING = "sum(rate(agent_task_errors_total[5m])) / sum(rate(agent_tasks_total[5m]))"


def _latency(name: str, metric: str) -> Question:
    """A 95th percentile in milliseconds, of the buckets of all workloads."""
    expr = "1000 * histogram_quantile(0.95, sum by (le) ({}))"
    return Question(
        name,
        expr.format(f"rate({metric}[5m])"),
        recorded=expr.format(f"workload:{metric}:rate5m"),
    )


QUESTIONS: Sequence[Question] = (
    Question("nodes live", 'sum by (region) (stateroom_nodes{state="live"})', by_region=True),
    Question("nodes silent", 'sum(stateroom_nodes{state="silent"})'),
    Question(
        "agents running", 'sum by (region) (stateroom_agents{state="running"})', by_region=True
    ),
    Question(
        "agents without a place", "sum(stateroom_agents_unplaced)", zero_beside="agents running"
    ),
    Question("tasks per second", "sum by (region) (rate(agent_tasks_total[5m]))", by_region=True),
    Question("tasks that fail, %", f"100 * {_FAILING}"),
    _latency("time of tasks p95, ms", "agent_response_seconds_bucket"),
    Question("requests per second", "sum(rate(agent_requests_total[5m]))"),
    _latency("time of requests p95, ms", "agent_request_duration_seconds_bucket"),
    Question("CPU of agents, cores", "sum(rate(agent_cpu_seconds_total[5m]))"),
    Question("memory of agents, MiB", "sum(agent_memory_usage_bytes) / 1048576"),
    Question("GPUs in use, %", "avg(DCGM_FI_DEV_GPU_UTIL)"),
    Question("oldest heartbeat, s", "max(stateroom_heartbeat_age_seconds)"),
    Question("incidents open", "sum(stateroom_incidents_open)"),
    Question("alerts firing", 'max(stateroom_alerts{state="firing"})'),
    Question("alerts pending", 'max(stateroom_alerts{state="pending"})'),
    Question("worst RPO, s", 'max(stateroom_recovery_point_age_seconds{network="_worst"})'),
    Question("targets down", "sum(up == bool 0)"),
)


def fleet_overview(engine: QueryEngine, at_ms: int) -> Overview:
    """The numbers that are known at a moment, each selection of series read once.

    Args:
        engine: answers from what was measured.
        at_ms: milliseconds since 1970 UTC.

    Returns:
        No numbers where nothing was measured within five minutes.

    Raises:
        TransientError: the samples cannot be read now.
    """
    numbers: dict[str, float] = {}
    regions: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for question in QUESTIONS:
        try:
            answer = _asked(engine, question, at_ms)
        except TooLargeError as error:
            left_out[question.name] = str(error)
            continue
        values = zip(answer.labels, answer.values.tolist(), strict=True)
        known = [(dict(labels), value) for labels, value in values if math.isfinite(value)]
        if known:
            numbers[question.name] = math.fsum(value for _, value in known)
        elif question.zero_beside in numbers:
            numbers[question.name] = 0.0
        if question.by_region:
            named = sorted((labels.get("region", ""), value) for labels, value in known)
            for region, value in [one for one in named if one[0]][:REGIONS_MAX]:
                regions[f"{question.name} in {region}"] = value
    return Overview({**numbers, **regions}, left_out)


def _asked(engine: QueryEngine, question: Question, at_ms: int) -> InstantVector:
    """The answer, from what a rule has recorded where there is such a thing."""
    if question.recorded:
        found = engine.instant(question.recorded, at_ms)
        if len(found.labels):
            return found
    return engine.instant(question.expr, at_ms)
