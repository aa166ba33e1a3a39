"""A simulated fleet that any process sees alike: it began at a fixed moment and runs in real time.

Nothing is shared and nothing is stored: the simulation is a function of its declaration and the
time, so every run and every sensor tick builds the same fleet anew.
"""

from __future__ import annotations

from datetime import UTC, datetime

from fleet.agents import Placement
from fleet.declaration import FleetDeclaration
from fleet.inventory import Node
from fleet.ports import Clock, FleetSnapshot
from fleet.reports import AgentDeclaration
from resources.simulated.clock import VirtualClock
from resources.simulated.cluster import SimulatedCluster

AGENT_CPU_MILLI = 10
AGENT_MEMORY_BYTES = 16 * 1024 * 1024


class SimulatedFleet:
    """Implements `fleet.ports.FleetReader` on a simulated cluster."""

    def __init__(self, cluster: SimulatedCluster, clock: Clock) -> None:
        """Look at `cluster`, whose virtual clock follows `clock`."""
        self._cluster = cluster
        self._clock = clock

    def regions(self) -> list[str]:
        """Names of all regions, sorted."""
        return self._cluster.regions()

    def nodes(self, region: str) -> list[Node]:
        """The nodes of a region."""
        return self.snapshot(region).nodes

    def snapshot(self, region: str) -> FleetSnapshot:
        """Nodes, GPUs and agents of a region, at the present of the real clock."""
        behind_s = (self._clock.now() - self._cluster.clock.now()).total_seconds()
        self._cluster.advance(max(behind_s, 0.0))
        return self._cluster.snapshot(region)


def simulate_declared(
    declaration: FleetDeclaration, agents_per_node: int, clock: Clock
) -> SimulatedFleet:
    """A healthy fleet of the declared nodes, each with the same number of agents.

    Args:
        declaration: regions and nodes.
        agents_per_node: agents `<node>-agent-<n>` of the network `simulated`.
        clock: real time.
    """
    midnight = clock.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    agents = [
        AgentDeclaration(
            agent_id=f"{node.node_id}-agent-{number}",
            network_id="simulated",
            workload="simulated",
            region=node.region,
            cpu_milli=AGENT_CPU_MILLI,
            memory_bytes=AGENT_MEMORY_BYTES,
        )
        for node in declaration.nodes
        for number in range(1, agents_per_node + 1)
    ]
    placements = [
        _placement(agent, node_id, midnight)
        for agent, node_id in zip(
            agents,
            (node.node_id for node in declaration.nodes for _ in range(agents_per_node)),
            strict=True,
        )
    ]
    cluster = SimulatedCluster(declaration.nodes, agents, placements, clock=VirtualClock(midnight))
    return SimulatedFleet(cluster, clock)


def _placement(agent: AgentDeclaration, node_id: str, at: datetime) -> Placement:
    return Placement(
        agent_id=agent.agent_id,
        network_id=agent.network_id,
        workload=agent.workload,
        node_id=node_id,
        region=agent.region,
        epoch=1,
        term=1,
        desired="running",
        reason="simulated",
        updated_at=at,
    )
