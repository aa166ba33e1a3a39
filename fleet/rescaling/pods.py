"""Agents as an autoscaler looks at pods: phases, readiness, requests and what each used.

An agent counts once, by its id: a copy that a rolling restart or a failover leaves behind belongs
to an epoch that is over, and is no pod. One that failover has parked, or that waits for room, is
wanted and counts as pending; one that was scaled away is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from fleet.inventory import Agent, AgentPhase
from fleet.placement.parking import may_be_tried_again
from fleet.rescaling.observation import MetricFault, Pod, PodSample, PodSamples
from fleet.rescaling.standing import ScaledAgent

CPU, MEMORY = "cpu", "memory"
CONTAINER = "agent"
"""The one container that an agent is."""

HEARTBEAT_MAX_S = 30.0
"""An agent without a sign of life for so long is not ready."""

NO_NODE_WORDS = "have no node"
WHY_MAX_CHARS = 200

_WORKING = frozenset({AgentPhase.RUNNING, AgentPhase.COMPLETED})

POD_PHASES = {
    AgentPhase.PENDING: "Pending",
    AgentPhase.RUNNING: "Running",
    AgentPhase.BACKING_OFF: "Running",
    AgentPhase.FAILED: "Failed",
    AgentPhase.COMPLETED: "Succeeded",
    AgentPhase.STOPPED: "Pending",
    AgentPhase.UNKNOWN: "Unknown",
}
"""What a kubelet would call it. One that is wanted and reported as stopped has not begun yet."""


@dataclass(frozen=True)
class WorkloadAgents:
    """The agents of one workload in one region."""

    wanted: Sequence[ScaledAgent]
    """By agent_id."""
    stopped: int
    """Scaled away, and their room not given back yet: quotas count them, and they come back
    first."""

    @property
    def ready(self) -> int:
        """How many work now."""
        return len(self.wanted) - len(self.not_ready)

    @cached_property
    def not_ready(self) -> list[ScaledAgent]:
        """Those that do not work (yet), by agent_id; who waits for a node is among them."""
        return [
            one
            for one in self.wanted
            if one.agent.phase not in _WORKING or one.agent.heartbeat_at is None
        ]


def waiting_words(agents: WorkloadAgents) -> str:
    """Which wanted agents have no node, and why the first of them has none; empty: all have one."""
    waiting = [one for one in agents.not_ready if waits_for_node(one)]
    if not waiting:
        return ""
    why = waiting[0].agent.reason[:WHY_MAX_CHARS]
    return f"{len(waiting)} of {len(agents.wanted)} {NO_NODE_WORDS}: {why}"


def by_workload(agents: Iterable[ScaledAgent]) -> dict[tuple[str, str], WorkloadAgents]:
    """Agents by workload and by the region where they are placed, else their home."""
    wanted: dict[tuple[str, str], list[ScaledAgent]] = {}
    stopped: dict[tuple[str, str], int] = {}
    for one in agents:
        key = (one.agent.workload, one.agent.region)
        if one.is_wanted:
            wanted.setdefault(key, []).append(one)
        else:
            holds = one.placement is not None and bool(one.placement.node_id)
            stopped[key] = stopped.get(key, 0) + holds
    return {
        key: WorkloadAgents(wanted.get(key, []), stopped.get(key, 0))
        for key in wanted.keys() | stopped.keys()
    }


def pods_of(
    agents: Iterable[ScaledAgent], now: datetime, heartbeat_max_s: float = HEARTBEAT_MAX_S
) -> list[Pod]:
    """The agents as pods, in order.

    Args:
        agents: that are wanted.
        now: the moment of the look.
        heartbeat_max_s: without a sign of life for longer an agent is not ready.
    """
    fresh = now - timedelta(seconds=heartbeat_max_s)
    return [_pod(one, fresh) for one in agents]


def _pod(one: ScaledAgent, fresh: datetime) -> Pod:
    agent = one.agent
    ready = _is_ready(agent, fresh)
    return Pod(
        name=agent.agent_id,
        phase="Pending" if waits_for_node(one) else POD_PHASES[agent.phase],
        ready=ready,
        started_at=agent.started_at,
        # Readiness has no history in a report: an agent that is ready became so when it started,
        # one that is not, but was, lost it with its last sign of life.
        ready_changed_at=agent.started_at if ready else agent.heartbeat_at or agent.started_at,
        requests={CONTAINER: _requests(agent)},
    )


def waits_for_node(one: ScaledAgent) -> bool:
    """Whether it is wanted and has no node."""
    placed = one.placement
    return placed is None or placed.desired == "parked" or not placed.node_id


def _is_ready(agent: Agent, fresh: datetime) -> bool:
    seen = agent.heartbeat_at
    return agent.phase is AgentPhase.RUNNING and seen is not None and seen >= fresh


def _requests(agent: Agent) -> Mapping[str, int]:
    """Thousandths; a resource that the workload does not ask for is absent."""
    wished = {CPU: agent.cpu_milli, MEMORY: agent.memory_bytes * 1000}
    return {name: milli for name, milli in wished.items() if milli > 0}


def resource_samples(
    resource: str, agents: Iterable[ScaledAgent], fresh: datetime
) -> PodSamples | MetricFault:
    """What each agent used of a resource, from its node's last report.

    Args:
        resource: `cpu` or `memory`.
        agents: that are wanted.
        fresh: samples before this moment are too old to count: their agents have none.
    """
    if resource not in {CPU, MEMORY}:
        return MetricFault(
            "FailedGetResourceMetric", f"nodes report {CPU} and {MEMORY} of agents, not {resource}"
        )
    samples: dict[str, PodSample] = {}
    for one in agents:
        agent = one.agent
        value = _used_milli(resource, agent)
        if value is None or agent.heartbeat_at is None or agent.heartbeat_at < fresh:
            continue
        if agent.phase is AgentPhase.RUNNING:
            samples[agent.agent_id] = PodSample(value, agent.heartbeat_at, window_s=1)
    return samples


def _used_milli(resource: str, agent: Agent) -> int | None:
    if resource == CPU:
        return None if agent.cpu_percent is None else round(agent.cpu_percent * 10)
    return None if agent.rss_bytes is None else agent.rss_bytes * 1000


def waits_for_room(one: ScaledAgent) -> bool:
    """Whether it is wanted, has no node, and a plan may find one: room and quotas come back."""
    placed = one.placement
    if placed is None:
        return True
    parked = placed.desired == "parked"
    return may_be_tried_again(placed) if parked else not placed.node_id
