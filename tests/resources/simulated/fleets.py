"""Small fleets that the simulator's tests share."""

from __future__ import annotations

from typing import Any

from fleet.agents import Placement
from fleet.fault_script import parse_fault_script
from fleet.reports import AgentDeclaration, NodeDeclaration
from resources.simulated.clock import DEFAULT_START
from resources.simulated.cluster import SimulatedCluster
from resources.simulated.synthetic import synthetic_fleet

NODES = [
    NodeDeclaration("n1", "eu", "eu-a", 4000, 8 << 30),
    NodeDeclaration("n2", "eu", "eu-b", 4000, 8 << 30),
    NodeDeclaration("n3", "us", "us-a", 4000, 8 << 30, 0, 2, 32 << 30, "T"),
    NodeDeclaration("n4", "us", "us-b", 4000, 8 << 30),
]
HOMES = {"a1": "n1", "a2": "n2", "a3": "n3", "a4": "n4"}
REGION_OF = {node.node_id: node.region for node in NODES}


def agent(agent_id: str, region: str = "eu") -> AgentDeclaration:
    """One agent of the workload `w`."""
    gpu_milli = 500 if region == "us" else 0
    return AgentDeclaration(agent_id, "net", "w", region, 1000, 1 << 30, gpu_milli=gpu_milli)


def placed(
    agent_id: str, node_id: str, epoch: int, *, term: int = 0, desired: str = "running"
) -> Placement:
    """A placement of an agent of `agent`."""
    region = REGION_OF.get(node_id, "eu")
    return Placement(
        agent_id, "net", "w", node_id, region, epoch, term, desired, "test", DEFAULT_START
    )


def four_nodes(script: str = "", **options: Any) -> SimulatedCluster:
    """Two regions of two nodes, one agent on each node."""
    return SimulatedCluster(
        NODES,
        [agent(agent_id, REGION_OF[node_id]) for agent_id, node_id in HOMES.items()],
        [placed(agent_id, node_id, 1) for agent_id, node_id in HOMES.items()],
        faults=parse_fault_script(script),
        **options,
    )


def dealt_fleet(nodes: int, agents: int, **options: Any) -> SimulatedCluster:
    """A synthetic fleet of the given size."""
    return SimulatedCluster(*synthetic_fleet(nodes, agents), **options)
