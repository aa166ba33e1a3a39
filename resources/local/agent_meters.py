"""What agents count about themselves: read from their heartbeats, shown as Prometheus metrics.

Series of single agents have a page of their own (`/metrics/agents`), so that the figures of the
node stay few. Bound: about 60 series for an agent that serves requests, and 14 more for each tool
that it tells apart (`TOOLS_MAX`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from fleet.errors import InvalidInputError
from fleet.names import is_name

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets, in seconds; the agents' API (`openapi.json`) says the same."""
TOOLS_MAX = 33
"""Pairs of framework and tool of one agent; the SDK tells 32 apart and adds up the others."""
COUNT_MAX = 2**53
"""Largest count: beyond it a double skips whole numbers."""

_WORK = {"count", "errors", "total_s", "durations"}


class Work(NamedTuple):
    """Count, failures and durations of one kind of work since the agent's process began."""

    done: int
    errors: int
    total_s: float
    durations: tuple[int, ...]
    """A count for each bucket of `BOUNDS_S`, and one for what took longer."""


class AgentMeters(NamedTuple):
    """What an agent has counted; None where it does not count such a thing."""

    tasks: Work | None = None
    requests: Work | None = None
    tools: Mapping[tuple[str, str], Work] = {}
    """(framework, tool) to its calls."""
    active_sessions: int | None = None


class AgentFigures(NamedTuple):
    """One agent as its node sees it, for one page of metrics."""

    agent_id: str
    network_id: str
    workload: str
    cpu_s: float | None
    """CPU time of its process; None before the first reading."""
    cpu_percent: float | None
    rss_bytes: int | None
    restarts: int
    meters: AgentMeters
    reported: Mapping[str, float]
    """Values of its own choice, by name."""


def parse_meters(value: object) -> AgentMeters:
    """Meters of a heartbeat's body.

    Raises:
        InvalidInputError: names the wrong member by its path, for example `meters.tasks.count`.
    """
    if not isinstance(value, dict):
        raise InvalidInputError("meters", value, "an object")
    _refuse_others(value, {"tasks", "requests", "tools", "active_sessions"}, "meters")
    tools = value.get("tools", [])
    if not isinstance(tools, list) or len(tools) > TOOLS_MAX:
        raise InvalidInputError("meters.tools", tools, f"a list of at most {TOOLS_MAX} objects")
    sessions = value.get("active_sessions")
    return AgentMeters(
        _work(value["tasks"], "meters.tasks") if "tasks" in value else None,
        _work(value["requests"], "meters.requests") if "requests" in value else None,
        dict(_tool(item, f"meters.tools[{index}]") for index, item in enumerate(tools)),
        None if sessions is None else _count(sessions, "meters.active_sessions"),
    )


def _tool(item: object, path: str) -> tuple[tuple[str, str], Work]:
    if not isinstance(item, dict):
        raise InvalidInputError(path, item, "an object")
    for member in ("framework", "tool"):
        name = item.get(member)
        if not isinstance(name, str) or not is_name(name):
            raise InvalidInputError(f"{path}.{member}", name, "a name of the fleet's alphabet")
    work = {key: part for key, part in item.items() if key not in {"framework", "tool"}}
    return (item["framework"], item["tool"]), _work(work, path)


def _work(value: object, path: str) -> Work:
    if not isinstance(value, dict):
        raise InvalidInputError(path, value, "an object")
    _refuse_others(value, _WORK, path)
    total_s = value.get("total_s")
    if (
        not isinstance(total_s, int | float)
        or isinstance(total_s, bool)
        or not 0 <= total_s <= COUNT_MAX
    ):
        raise InvalidInputError(f"{path}.total_s", total_s, "seconds, 0 or more")
    durations = value.get("durations")
    buckets = len(BOUNDS_S) + 1
    if not isinstance(durations, list) or len(durations) != buckets:
        raise InvalidInputError(f"{path}.durations", durations, f"a list of {buckets} counts")
    counts = tuple(_count(one, f"{path}.durations") for one in durations)
    count, errors = (_count(value.get(name), f"{path}.{name}") for name in ("count", "errors"))
    if sum(counts) != count or errors > count:
        raise InvalidInputError(
            f"{path}.count", count, "the sum of `durations`, and no less than `errors`"
        )
    return Work(count, errors, float(total_s), counts)


def _count(value: object, path: str) -> int:
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise InvalidInputError(path, value, f"a whole number from 0 to {COUNT_MAX}")
    return value


def _refuse_others(value: Mapping[str, Any], members: set[str], path: str) -> None:
    others = sorted(value.keys() - members)
    if others:
        raise InvalidInputError(f"{path}.{others[0]}", "given", f"only {sorted(members)}")


class _Family(NamedTuple):
    name: str
    """As it stands in `# TYPE`; of counters with `_total`, as the text format wants it."""
    type: str
    help: str


_CPU_S = _Family("agent_cpu_seconds_total", "counter", "CPU time of the agent's process.")
_CPU = _Family("agent_cpu_usage_ratio", "gauge", "CPU used between two readings; 1 is one core.")
_MEMORY = _Family(
    "agent_memory_usage_bytes", "gauge", "Resident memory; shared pages count for each agent."
)
_RESTARTS = _Family("agent_restarts_total", "counter", "Restarts after a crash, on this node.")
_SESSIONS = _Family("agent_active_sessions", "gauge", "Sessions that are open.")
_REPORTED = _Family("agent_reported_value", "gauge", "Values of the agent's own choice, by name.")
_TASKS = (
    _Family("agent_tasks_total", "counter", "Tasks done since the process began."),
    _Family("agent_task_errors_total", "counter", "Tasks that failed."),
    _Family("agent_response_seconds", "histogram", "How long tasks took."),
)
_REQUESTS = (
    _Family("agent_requests_total", "counter", "Requests served since the process began."),
    _Family("agent_request_errors_total", "counter", "Requests that failed."),
    _Family("agent_request_duration_seconds", "histogram", "How long requests took."),
)
_TOOLS = (
    _Family("agent_tool_calls_total", "counter", "Calls of tools since the process began."),
    _Family("agent_tool_errors_total", "counter", "Calls that failed."),
    _Family("agent_tool_duration_seconds", "histogram", "How long calls took."),
)


def render_agents(node_id: str, region: str, agents: Iterable[AgentFigures]) -> bytes:
    """Exposition text (version 0.0.4) of all agents of a node; names need no escapes.

    Written by hand: 1,000 agents are some 40,000 lines, which prometheus_client takes a second for.
    """
    place = f'node="{node_id}",region="{region}"'
    lines: dict[_Family, list[str]] = {}
    for agent in agents:
        labels = (
            f'agent="{agent.agent_id}",network="{agent.network_id}",'
            f'workload="{agent.workload}",{place}'
        )
        _add_readings(lines, labels, agent)
        _add_work(lines, _TASKS, labels, agent.meters.tasks)
        _add_work(lines, _REQUESTS, labels, agent.meters.requests)
        for (framework, tool), work in agent.meters.tools.items():
            _add_work(lines, _TOOLS, f'{labels},framework="{framework}",tool="{tool}"', work)
    return "".join(_text(lines)).encode()


def _text(lines: Mapping[_Family, list[str]]) -> Iterator[str]:
    for family in sorted(lines):
        yield f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type}\n"
        yield from lines[family]


def _add_readings(lines: dict[_Family, list[str]], labels: str, agent: AgentFigures) -> None:
    cpu_ratio = None if agent.cpu_percent is None else agent.cpu_percent / 100
    for family, value in (
        (_CPU_S, agent.cpu_s),
        (_CPU, cpu_ratio),
        (_MEMORY, agent.rss_bytes),
        (_RESTARTS, agent.restarts),
        (_SESSIONS, agent.meters.active_sessions),
    ):
        if value is not None:
            lines.setdefault(family, []).append(f"{family.name}{{{labels}}} {value!r}\n")
    for name, value in agent.reported.items():
        lines.setdefault(_REPORTED, []).append(
            f'{_REPORTED.name}{{{labels},name="{name}"}} {value!r}\n'
        )


def _add_work(
    lines: dict[_Family, list[str]],
    families: tuple[_Family, _Family, _Family],
    labels: str,
    work: Work | None,
) -> None:
    if work is None:
        return
    total, errors, seconds = families
    lines.setdefault(total, []).append(f"{total.name}{{{labels}}} {work.done}\n")
    lines.setdefault(errors, []).append(f"{errors.name}{{{labels}}} {work.errors}\n")
    histogram = lines.setdefault(seconds, [])
    for bound, count in zip(_BOUND_TEXTS, accumulate(work.durations), strict=True):
        histogram.append(f'{seconds.name}_bucket{{{labels},le="{bound}"}} {count}\n')
    histogram.append(f"{seconds.name}_sum{{{labels}}} {work.total_s!r}\n")
    histogram.append(f"{seconds.name}_count{{{labels}}} {work.done}\n")


_BOUND_TEXTS = (*map(str, BOUNDS_S), "+Inf")
