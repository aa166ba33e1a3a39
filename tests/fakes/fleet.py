"""A declared fleet in a control store, and reports as its supervisors would send them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from fleet.agents import Placement, StatePut
from fleet.declaration import FleetDeclaration, WorkloadReplicas
from fleet.heartbeats import HeartbeatPolicy
from fleet.inventory import AgentPhase, Gpu, Node
from fleet.leases import Lease, node_lease_name
from fleet.ports.clock import Clock
from fleet.ports.cluster import FleetReader, FleetSnapshot
from fleet.ports.control_store import ControlStore, LeaseWish
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport

REGIONS = ("eu", "us")
LEASE_TTL_S = 5.0
MIB = 1024**2


def declare_fleet(
    regions: Sequence[str] = REGIONS,
    nodes_per_region: int = 2,
    gpu_count: int = 0,
    agents_per_node: int = 2,
) -> FleetDeclaration:
    """A fleet of equal nodes `<region>-1`, `<region>-2`, ..., with one workload."""
    nodes = tuple(
        NodeDeclaration(
            node_id=f"{region}-{number}",
            region=region,
            zone=f"{region}-a",
            cpu_milli=2000,
            memory_bytes=1024 * MIB,
            gpu_count=gpu_count,
        )
        for region in regions
        for number in range(1, nodes_per_region + 1)
    )
    work = WorkloadReplicas("net", "work", agents_per_node * len(nodes))
    return FleetDeclaration(tuple(sorted(regions)), nodes, HeartbeatPolicy(5.0, 10.0), (work,))


class SeededFleet:
    """Supervisors of every declared node, reduced to what reaches the control store."""

    def __init__(
        self,
        store: ControlStore,
        clock: Clock,
        declaration: FleetDeclaration,
        agents_per_node: int = 2,
    ) -> None:
        """Declare and place everything; nothing is reported yet."""
        self.store, self.clock, self.declaration = store, clock, declaration
        self.leases: dict[str, Lease] = {}
        self.gpus: dict[str, tuple[Gpu, ...]] = {}
        self.agents = {
            node.node_id: [
                AgentDeclaration(f"{node.node_id}-a{n}", "net", "work", node.region, 100, 16 * MIB)
                for n in range(1, agents_per_node + 1)
            ]
            for node in declaration.nodes
        }
        store.declare_nodes(declaration.nodes)
        store.declare_agents([agent for group in self.agents.values() for agent in group])
        store.place_agents(
            [
                placement_of(agent, node_id, clock.now())
                for node_id, group in self.agents.items()
                for agent in group
            ]
        )

    def beat(self, *silent: str) -> None:
        """Every node reports once, but the `silent` ones; one transaction."""
        here = [n.node_id for n in self.declaration.nodes if n.node_id not in silent]
        self._report(here, AgentPhase.RUNNING)

    def report(self, node_id: str, phase: AgentPhase = AgentPhase.RUNNING) -> None:
        """One heartbeat of one node, with all its agents in `phase`."""
        self._report([node_id], phase)

    def _report(self, node_ids: Sequence[str], phase: AgentPhase) -> None:
        new = [node_id for node_id in node_ids if node_id not in self.leases]
        wishes = [LeaseWish(node_lease_name(node_id), "boot-1", LEASE_TTL_S) for node_id in new]
        for node_id, acquired in zip(new, self.store.acquire_leases(wishes), strict=True):
            assert acquired.lease is not None, acquired.error
            self.leases[node_id] = acquired.lease
        reports = [(self._said(node_id, phase), self.leases[node_id]) for node_id in node_ids]
        for stored in self.store.report_nodes(reports):
            assert stored.lease is not None, stored.error
            self.leases[stored.node_id] = stored.lease

    def _said(self, node_id: str, phase: AgentPhase) -> NodeReport:
        now = self.clock.now()
        agents = tuple(
            AgentReport(agent.agent_id, 1, phase, 4000 + n, now, now, 0, 1.0, 8 * MIB, "")
            for n, agent in enumerate(self.agents[node_id])
        )
        return NodeReport(
            node_id=node_id,
            boot_id="boot-1",
            pid=4000,
            address="127.0.0.1:1",
            started_at=now,
            reported_at=now,
            cpu_percent=10.0,
            memory_used_bytes=512 * MIB,
            disk_free_bytes=1 << 40,
            agents=agents,
            gpus=self.gpus.get(node_id, ()),
        )

    def write_states(self, body: bytes = b"{}") -> None:
        """Every agent stores a first state."""
        self.store.put_states(
            [
                StatePut(agent.agent_id, 1, 0, body)
                for group in self.agents.values()
                for agent in group
            ]
        )


def placement_of(agent: AgentDeclaration, node_id: str, at: datetime) -> Placement:
    """The plan to place an agent for the first time."""
    return Placement(
        agent_id=agent.agent_id,
        network_id=agent.network_id,
        workload=agent.workload,
        node_id=node_id,
        region=agent.region,
        epoch=0,
        term=1,
        desired="running",
        reason="test",
        updated_at=at,
    )


class FaultyFleet:
    """A `FleetReader` that alters or refuses what another one sees."""

    def __init__(self, reader: FleetReader) -> None:
        """Pass everything through, for now."""
        self._reader = reader
        self.errors: dict[str, Exception] = {}
        """Region -> what every look at it raises."""
        self.failures_left: dict[str, int] = {}
        """Region -> how many looks fail before it recovers; absent: all do."""
        self.altered: dict[str, FleetSnapshot] = {}
        """Region -> what is seen instead."""
        self.looks: list[str] = []

    def regions(self) -> list[str]:
        """As seen."""
        return self._reader.regions()

    def nodes(self, region: str) -> list[Node]:
        """As seen, altered or refused."""
        return self.snapshot(region).nodes

    def snapshot(self, region: str) -> FleetSnapshot:
        """As seen, altered or refused."""
        self.looks.append(region)
        error = self.errors.get(region)
        if error is not None:
            left = self.failures_left.get(region)
            if left is None or left > 0:
                self.failures_left |= {} if left is None else {region: left - 1}
                raise error
        return self.altered.get(region) or self._reader.snapshot(region)


def later(at: datetime, seconds: float) -> datetime:
    """A moment `seconds` after another."""
    return at + timedelta(seconds=seconds)
