"""Fleets of any size for tests, demos and benchmarks, by a stated rule without chance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.agents import Placement
from fleet.errors import InvalidInputError
from fleet.reports import AgentDeclaration, NodeDeclaration
from resources.simulated.clock import DEFAULT_START

GIB = 1024**3
_REGIONS = ("ap-southeast-2", "eu-central-1", "us-west-2")
_WORKLOADS = ("cpu", "disk", "memory", "network")
_GPU_EVERY = 4


class SyntheticFleet(NamedTuple):
    """Declarations and first placements, ready for `SimulatedCluster`."""

    nodes: list[NodeDeclaration]
    agents: list[AgentDeclaration]
    placements: list[Placement]


def synthetic_fleet(
    node_count: int,
    agent_count: int,
    *,
    regions: Sequence[str] = _REGIONS,
    zones_per_region: int = 2,
    now: datetime = DEFAULT_START,
) -> SyntheticFleet:
    """Deal nodes over regions and zones, and agents over nodes, one after the other.

    Every fourth node of a region has 8 GPUs of 80 GiB; no agent asks for one. Names are padded, so
    that the order by name is the order of dealing.

    Raises:
        InvalidInputError: no node, no region, or a negative number of agents.
    """
    if node_count < 1:
        raise InvalidInputError("node_count", node_count, "at least 1")
    if agent_count < 0:
        raise InvalidInputError("agent_count", agent_count, "0 or more")
    if not regions or zones_per_region < 1:
        raise InvalidInputError("regions", regions, "at least one region with one zone")
    width = len(str(node_count - 1))
    nodes = []
    for index in range(node_count):
        region = regions[index % len(regions)]
        turn = index // len(regions)
        gpus = 8 if turn % _GPU_EVERY == _GPU_EVERY - 1 else 0
        nodes.append(
            NodeDeclaration(
                node_id=f"node-{index:0{width}}",
                region=region,
                zone=f"{region}{chr(ord('a') + turn % zones_per_region)}",
                cpu_milli=32_000,
                memory_bytes=128 * GIB,
                bandwidth_bps=10_000_000_000,
                gpu_count=gpus,
                gpu_memory_bytes=gpus * 80 * GIB,
                gpu_model="simulated-80g" if gpus else None,
            )
        )
    return _deal_agents(nodes, agent_count, now)


def _deal_agents(nodes: list[NodeDeclaration], agent_count: int, now: datetime) -> SyntheticFleet:
    width = len(str(max(0, agent_count - 1)))
    agents = []
    placements = []
    for index in range(agent_count):
        node = nodes[index % len(nodes)]
        workload = _WORKLOADS[index % len(_WORKLOADS)]
        agent_id = f"agent-{index:0{width}}"
        agents.append(
            AgentDeclaration(
                agent_id=agent_id,
                network_id="synthetic",
                workload=workload,
                region=node.region,
                cpu_milli=500,
                memory_bytes=GIB,
            )
        )
        placements.append(
            Placement(
                agent_id=agent_id,
                network_id="synthetic",
                workload=workload,
                node_id=node.node_id,
                region=node.region,
                epoch=1,
                term=0,
                desired="running",
                reason="dealt in turn",
                updated_at=now,
            )
        )
    return SyntheticFleet(nodes, agents, placements)
