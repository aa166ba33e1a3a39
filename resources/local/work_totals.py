"""What all agents of a node have done together, since the node began: counters that only rise.

Adding up what agents count now would fall whenever one ends, and a falling counter reads as a
reset. So each report adds what is new in it since the last one of the same process.
"""

from __future__ import annotations

from typing import NamedTuple

from resources.local.agent_meters import NO_WORK, AgentMeters, Work

TOOLS_MAX = 500
"""(network, framework, tool) told apart on a node; further ones are added up as `other`."""
OTHER = "other"


class WorkloadKey(NamedTuple):
    """Agents that are counted together."""

    network_id: str
    workload: str


class ToolKey(NamedTuple):
    """Calls that are counted together."""

    network_id: str
    framework: str
    tool: str


class WorkTotals:
    """Sums of one node; its user holds the lock."""

    def __init__(self) -> None:
        """Nothing done yet."""
        self.tasks: dict[WorkloadKey, Work] = {}
        self.requests: dict[WorkloadKey, Work] = {}
        self.tools: dict[ToolKey, Work] = {}

    def add(self, key: WorkloadKey, before: AgentMeters, after: AgentMeters) -> None:
        """Take the report of an agent into account.

        Args:
            key: what the agent is counted with.
            before: its last report under the same process; an empty one for a new process.
            after: its report now.
        """
        for totals, old, new in (
            (self.tasks, before.tasks, after.tasks),
            (self.requests, before.requests, after.requests),
        ):
            if new is not None:
                totals[key] = _sum(totals.get(key, NO_WORK), _since(old, new))
        for (framework, tool), new in after.tools.items():
            known = ToolKey(key.network_id, framework, tool)
            if known not in self.tools and len(self.tools) >= TOOLS_MAX:
                known = ToolKey(key.network_id, OTHER, OTHER)
            done = _since(before.tools.get((framework, tool)), new)
            self.tools[known] = _sum(self.tools.get(known, NO_WORK), done)


def _since(before: Work | None, after: Work) -> Work:
    """What was done between two reports; all of the second where the counters began anew."""
    if before is None or after.done < before.done:
        return after
    return Work(
        after.done - before.done,
        max(0, after.errors - before.errors),
        max(0.0, after.total_s - before.total_s),
        tuple(
            max(0, new - old) for old, new in zip(before.durations, after.durations, strict=True)
        ),
    )


def _sum(one: Work, other: Work) -> Work:
    return Work(
        one.done + other.done,
        one.errors + other.errors,
        one.total_s + other.total_s,
        tuple(a + b for a, b in zip(one.durations, other.durations, strict=True)),
    )
