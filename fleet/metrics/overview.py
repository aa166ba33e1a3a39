"""The fleet at a glance: some twenty numbers, each the answer to one question in PromQL.

What was not measured is left out: an overview without a number says that nobody knows it, and one
with a 0 says that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet.ports.query_engine import QueryEngine

REGIONS_MAX = 20
"""Regions that have numbers of their own, in order of name; the totals are of all."""


class Question(NamedTuple):
    """One number, or one for each region."""

    name: str
    """With its unit last."""
    expr: str
    """PromQL; a single element, or with `by_region` one for each `region`."""
    by_region: bool = False


_FAILING = "sum(rate(agent_task_errors_total[5m])) / sum(rate(agent_tasks_total[5m]))"
_TASKS_P95 = "histogram_quantile(0.95, sum by (le) (rate(agent_response_seconds_bucket[5m])))"
_REQUESTS_P95 = (
    "histogram_quantile(0.95, sum by (le) (rate(agent_request_duration_seconds_bucket[5m])))"
)

QUESTIONS: Sequence[Question] = (
    Question("nodes live", 'sum(stateroom_nodes{state="live"})'),
    Question("nodes silent", 'sum(stateroom_nodes{state="silent"})'),
    Question("agents running", 'sum(stateroom_agents{state="running"})'),
    # nobody without a place is no series at all, which counts as 0 where agents are counted
    Question(
        "agents without a place",
        'sum(stateroom_agents_unplaced) or 0 * sum(stateroom_agents{state="running"})',
    ),
    Question("tasks per second", "sum(rate(agent_tasks_total[5m]))"),
    Question("tasks that fail, %", f"100 * {_FAILING}"),
    Question("time of tasks p95, ms", f"1000 * {_TASKS_P95}"),
    Question("requests per second", "sum(rate(agent_requests_total[5m]))"),
    Question("time of requests p95, ms", f"1000 * {_REQUESTS_P95}"),
    Question("CPU of agents, cores", "sum(rate(agent_cpu_seconds_total[5m]))"),
    Question("memory of agents, MiB", "sum(agent_memory_usage_bytes) / 1048576"),
    Question("GPUs in use, %", "avg(DCGM_FI_DEV_GPU_UTIL)"),
    Question("oldest heartbeat, s", "max(stateroom_heartbeat_age_seconds)"),
    Question("incidents open", "sum(stateroom_incidents_open)"),
    Question("alerts firing", 'max(stateroom_alerts{state="firing"})'),
    Question("alerts pending", 'max(stateroom_alerts{state="pending"})'),
    Question("worst RPO, s", 'max(stateroom_recovery_point_age_seconds{network="_worst"})'),
    Question("targets down", "count(up == 0) or 0 * count(up)"),
    Question("nodes live", 'sum by (region) (stateroom_nodes{state="live"})', by_region=True),
    Question(
        "agents running", 'sum by (region) (stateroom_agents{state="running"})', by_region=True
    ),
    Question("tasks per second", "sum by (region) (rate(agent_tasks_total[5m]))", by_region=True),
)


def fleet_overview(engine: QueryEngine, at_ms: int) -> Mapping[str, float]:
    """The numbers that are known at a moment, in the order of the questions.

    Args:
        engine: answers from what was measured.
        at_ms: milliseconds since 1970 UTC.

    Returns:
        Name to value; regions as `tasks per second in us-west-2`. Empty where nothing was measured
        within five minutes.

    Raises:
        TooLargeError: a question asks for more series than a query may have.
        TransientError: the samples cannot be read now.
    """
    found: dict[str, float] = {}
    for question in QUESTIONS:
        answer = engine.instant(question.expr, at_ms)
        values = zip(answer.labels, answer.values.tolist(), strict=True)
        known = [(labels, value) for labels, value in values if math.isfinite(value)]
        if not question.by_region:
            for _, value in known:
                found[question.name] = value
            continue
        regions = sorted((dict(labels).get("region", ""), value) for labels, value in known)
        for region, value in [one for one in regions if one[0]][:REGIONS_MAX]:
            found[f"{question.name} in {region}"] = value
    return found
