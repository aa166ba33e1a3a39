"""The page of a node's agents for a scraper: a few series of each agent, the rest by workload.

Latencies are added up by workload and tool (`work_totals`): a histogram for each of 100,000 agents
would be two million series that nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

from fleet.metrics.catalogue import METRICS
from resources.local.agent_meters import BOUNDS_S, AgentMeters, Work
from resources.local.work_totals import WorkTotals

_METRICS = {one.name: one for one in METRICS}


class AgentFigures(NamedTuple):
    """One agent as its node sees it."""

    agent_id: str
    network_id: str
    workload: str
    cpu_s: float | None
    """CPU time of its process; None before the first reading."""
    cpu_percent: float | None
    """Of one core, between two readings; None before the second."""
    rss_bytes: int | None
    restarts: int
    meters: AgentMeters
    reported: Mapping[str, float]
    """Values of its own choice, by name."""


Lines = dict[str, list[str]]


def render_agents(
    node_id: str, region: str, agents: Iterable[AgentFigures], totals: WorkTotals
) -> bytes:
    """Exposition text (version 0.0.4) of all agents of a node; names need no escapes.

    Written by hand: 1,000 agents are some 10,000 lines, many times a minute.
    """
    place = f'node="{node_id}",region="{region}"'
    lines: Lines = {}
    for agent in agents:
        _add_agent(
            lines,
            f'agent="{agent.agent_id}",network="{agent.network_id}",'
            f'workload="{agent.workload}",{place}',
            agent,
        )
    _add_totals(lines, place, totals)
    return "".join(_text(lines)).encode()


def _text(lines: Lines) -> Iterator[str]:
    for name in sorted(lines):
        metric = _METRICS[name]
        yield f"# HELP {name} {metric.help}\n# TYPE {name} {metric.type}\n"
        yield from lines[name]


def _add(lines: Lines, name: str, labels: str, value: float) -> None:
    lines.setdefault(name, []).append(f"{name}{{{labels}}} {value!r}\n")


def _add_agent(lines: Lines, labels: str, agent: AgentFigures) -> None:
    tasks = agent.meters.tasks
    cpu_ratio = None if agent.cpu_percent is None else agent.cpu_percent / 100
    for name, value in (
        ("agent_cpu_seconds_total", agent.cpu_s),
        ("agent_cpu_usage_ratio", cpu_ratio),
        ("agent_memory_usage_bytes", agent.rss_bytes),
        ("agent_restarts_total", agent.restarts),
        ("agent_active_sessions", agent.meters.active_sessions),
        ("agent_tasks_total", None if tasks is None else tasks.done),
        ("agent_task_errors_total", None if tasks is None else tasks.errors),
    ):
        if value is not None:
            _add(lines, name, labels, value)
    for name, value in agent.reported.items():
        _add(lines, "agent_reported_value", f'{labels},name="{name}"', value)


def _add_totals(lines: Lines, place: str, totals: WorkTotals) -> None:
    for key, work in totals.tasks.items():
        labels = f'network="{key.network_id}",workload="{key.workload}",{place}'
        _add_histogram(lines, "agent_response_seconds", labels, work)
    for key, work in totals.requests.items():
        labels = f'network="{key.network_id}",workload="{key.workload}",{place}'
        _add(lines, "agent_requests_total", labels, work.done)
        _add(lines, "agent_request_errors_total", labels, work.errors)
        _add_histogram(lines, "agent_request_duration_seconds", labels, work)
    for tool, work in totals.tools.items():
        labels = (
            f'framework="{tool.framework}",tool="{tool.tool}",network="{tool.network_id}",{place}'
        )
        _add(lines, "agent_tool_calls_total", labels, work.done)
        _add(lines, "agent_tool_errors_total", labels, work.errors)
        _add_histogram(lines, "agent_tool_duration_seconds", labels, work)


def _add_histogram(lines: Lines, name: str, labels: str, work: Work) -> None:
    found = lines.setdefault(name, [])
    for bound, count in zip(_BOUND_TEXTS, accumulate(work.durations), strict=True):
        found.append(f'{name}_bucket{{{labels},le="{bound}"}} {count}\n')
    found.append(f"{name}_sum{{{labels}}} {work.total_s!r}\n")
    found.append(f"{name}_count{{{labels}}} {work.done}\n")


_BOUND_TEXTS = (*map(str, BOUNDS_S), "+Inf")
