"""What a node's supervisor reports, and how reports and placements become one view of agents.

A report is one row per node, replaced as a whole each heartbeat: 10,000 nodes with 100,000 agents
cost 10,000 row updates an interval, not 100,000.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from fleet.agents import Placement
from fleet.inventory import Agent, AgentPhase, Gpu, Node

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class NodeDeclaration(NamedTuple):
    """A node as declared in settings or by the infrastructure."""

    node_id: str
    region: str
    zone: str
    cpu_milli: int
    memory_bytes: int
    bandwidth_bps: int = 0
    gpu_count: int = 0
    gpu_memory_bytes: int = 0
    gpu_model: str | None = None


class AgentDeclaration(NamedTuple):
    """An agent as declared: its shape and its home, before any placement."""

    agent_id: str
    network_id: str
    workload: str
    region: str
    cpu_milli: int
    memory_bytes: int
    bandwidth_bps: int = 0
    gpu_milli: int = 0
    gpu_memory_bytes: int = 0
    priority: int = 0


class AgentReport(NamedTuple):
    """One agent as its node sees it now."""

    agent_id: str
    epoch: int
    phase: AgentPhase
    pid: int | None
    started_at: datetime | None
    heartbeat_at: datetime | None
    restarts: int
    cpu_percent: float | None
    rss_bytes: int | None
    reason: str


LIVE_PHASES = frozenset({AgentPhase.RUNNING, AgentPhase.BACKING_OFF})
"""A copy in one of these runs, or will run again by itself."""


def count_stale(
    node_id: str, copies: Iterable[AgentReport], placed: Mapping[str, tuple[str, int]]
) -> int:
    """How many copies of a report live on although their agents belong elsewhere by now.

    Args:
        node_id: that reported them.
        copies: as reported.
        placed: agent_id -> node and epoch in force; an agent without an entry is placed nowhere.
    """
    return sum(
        one.phase in LIVE_PHASES
        and (placed.get(one.agent_id, ("", 0))[0] != node_id or one.epoch < placed[one.agent_id][1])
        for one in copies
    )


class NodeReport(NamedTuple):
    """Everything a node says about itself in one heartbeat."""

    node_id: str
    boot_id: str
    pid: int
    address: str
    started_at: datetime
    reported_at: datetime
    cpu_percent: float | None
    memory_used_bytes: int | None
    disk_free_bytes: int | None
    agents: tuple[AgentReport, ...]
    gpus: tuple[Gpu, ...]


class RegionCounts(NamedTuple):
    """A region in numbers, for status screens; every number as last reported to the store."""

    region: str
    nodes: int
    """Declared nodes."""
    nodes_live: int
    """Nodes that have reported and whose lease has not expired."""
    nodes_silent: int
    """Nodes that have reported once, but whose lease has expired or was released."""
    agents_declared: int
    """Agents whose home is this region."""
    agents_placed: int
    """Agents that are placed here, wherever their home is."""
    agents_running: int
    """As reported by live nodes."""
    agents_failed: int
    """As reported by live nodes."""
    agents_unknown: int
    """Placed here on silent nodes."""
    oldest_report_at: datetime | None
    """When the store last heard of the node that it has not heard of for longest."""
    oldest_heartbeat_at: datetime | None
    """Oldest heartbeat of a running agent on a live node."""


def declaration_of(agent: Agent) -> AgentDeclaration:
    """The shape of an agent, at home in the region where it is placed."""
    return AgentDeclaration(
        agent_id=agent.agent_id,
        network_id=agent.network_id,
        workload=agent.workload,
        region=agent.region,
        cpu_milli=agent.cpu_milli,
        memory_bytes=agent.memory_bytes,
        bandwidth_bps=agent.bandwidth_bps,
        gpu_milli=agent.gpu_milli,
        gpu_memory_bytes=agent.gpu_memory_bytes,
        priority=agent.priority,
    )


def node_declaration_of(node: Node) -> NodeDeclaration:
    """A node as it was declared."""
    return NodeDeclaration(
        node_id=node.node_id,
        region=node.region,
        zone=node.zone,
        cpu_milli=node.cpu_milli,
        memory_bytes=node.memory_bytes,
        bandwidth_bps=node.bandwidth_bps,
        gpu_count=node.gpu_count,
        gpu_memory_bytes=node.gpu_memory_bytes,
        gpu_model=node.gpu_model,
    )


def unplaced(shape: AgentDeclaration) -> Placement:
    """The placement that stands for none: epoch 0, no node, in the agent's home region."""
    return Placement(
        agent_id=shape.agent_id,
        network_id=shape.network_id,
        workload=shape.workload,
        node_id="",
        region=shape.region,
        epoch=0,
        term=0,
        desired="running",
        reason="not placed yet",
        updated_at=_NEVER,
    )


def merge_agents(
    declared: Iterable[tuple[AgentDeclaration, Placement]],
    reports: Mapping[str, Mapping[str, AgentReport]],
    silent_nodes: frozenset[str],
) -> list[Agent]:
    """Join declarations and placements with what the nodes report.

    Args:
        declared: each agent with its placement.
        reports: node_id -> agent_id -> report.
        silent_nodes: nodes whose last report must not be believed any more.

    Returns:
        One `Agent` per declaration, in the given order. The phase is UNKNOWN, with the reason,
        when the node is silent; PENDING when it has not reported the agent under this epoch. One
        that was told to stop has the phase of its old copy until that has ended.
    """
    nothing: Mapping[str, AgentReport] = {}
    agents = []
    for shape, placed in declared:
        report = reports.get(placed.node_id, nothing).get(shape.agent_id)
        current = report is not None and report.epoch == placed.epoch
        phase, reason = AgentPhase.PENDING, placed.reason
        if placed.desired != "running" and not current:
            phase = AgentPhase.STOPPED
            if report is not None and report.phase in {*LIVE_PHASES, AgentPhase.PENDING}:
                phase, reason = report.phase, f"{placed.reason}; its process has not ended yet"
        elif current and report is not None:
            phase, reason = report.phase, report.reason
        if placed.node_id in silent_nodes:
            phase, reason = AgentPhase.UNKNOWN, f"node {placed.node_id} is silent"
        agents.append(
            Agent(
                agent_id=shape.agent_id,
                network_id=shape.network_id,
                workload=shape.workload,
                node_id=placed.node_id,
                region=placed.region,
                epoch=placed.epoch,
                phase=phase,
                cpu_milli=shape.cpu_milli,
                memory_bytes=shape.memory_bytes,
                bandwidth_bps=shape.bandwidth_bps,
                gpu_milli=shape.gpu_milli,
                gpu_memory_bytes=shape.gpu_memory_bytes,
                priority=shape.priority,
                pid=report.pid if current and report else None,
                started_at=report.started_at if current and report else None,
                heartbeat_at=report.heartbeat_at if current and report else None,
                restarts=report.restarts if current and report else 0,
                cpu_percent=report.cpu_percent if current and report else None,
                rss_bytes=report.rss_bytes if current and report else None,
                reason=reason,
            )
        )
    return agents
