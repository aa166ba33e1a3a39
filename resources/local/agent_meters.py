"""What agents count about themselves, as their heartbeats bring it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fleet.errors import InvalidInputError
from fleet.names import is_name

BOUNDS_S = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
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


NO_WORK = Work(0, 0, 0.0, (0,) * (len(BOUNDS_S) + 1))


class AgentMeters(NamedTuple):
    """What an agent has counted; None where it does not count such a thing."""

    tasks: Work | None = None
    requests: Work | None = None
    tools: Mapping[tuple[str, str], Work] = {}
    """(framework, tool) to its calls."""
    active_sessions: int | None = None


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
