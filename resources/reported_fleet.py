"""The fleet as its nodes report it: what the control store knows, and nothing it does not.

The nodes' own heartbeats are the evidence, so this view is the same for supervisors on this
machine and on others. A node that died is seen when its heartbeat is overdue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet.agents import Placement
from fleet.errors import NodeUnavailableError
from fleet.inventory import Node
from fleet.ports.clock import Clock
from fleet.ports.cluster import FleetSnapshot, ScaleWish
from fleet.ports.control_store import ControlStore
from fleet.rescaling.standing import ScaleResult
from resources.store_scaling import rescale_in_store


class ReportedFleet:
    """Implements `fleet.ports.cluster.FleetScaler` on the control store."""

    def __init__(self, store: ControlStore, clock: Clock) -> None:
        """Read `store`; `clock` dates the observations."""
        self._store = store
        self._clock = clock

    def regions(self) -> list[str]:
        """Regions that have nodes or agents, sorted."""
        return [counts.region for counts in self._store.fleet_counts()]

    def nodes(self, region: str) -> list[Node]:
        """The nodes of a region with their last report, by node_id."""
        return self._store.nodes(region)

    def snapshot(self, region: str) -> FleetSnapshot:
        """Nodes, GPUs and agents of a region.

        Agents are read first and the time last: an agent's node is then never missing because it
        was declared in between, and no heartbeat is younger than the observation.
        """
        agents = self._store.agents(region)
        gpus = self._store.gpus(region)
        nodes = self._store.nodes(region)
        return FleetSnapshot(region, self._clock.now(), nodes, gpus, agents)

    def apply_placements(self, placements: Sequence[Placement]) -> None:
        """Nothing to do: nodes read what is stored with every heartbeat, and hear nothing else."""

    def rescale(
        self, wishes: Sequence[ScaleWish], sessions: Mapping[str, int], *, term: int
    ) -> list[ScaleResult]:
        """See `fleet.ports.cluster.FleetScaler`; nodes read it with their next heartbeat."""
        return rescale_in_store(self._store, self._clock, wishes, sessions, self.nodes, term)

    def evict(self, agent_id: str, epoch: int, grace_s: float) -> None:
        """Nodes cannot be asked through the store; their leases are waited for.

        Raises:
            NodeUnavailableError: always.
        """
        del grace_s
        raise NodeUnavailableError(
            f"agent {agent_id} of epoch {epoch} cannot be asked to stop: its node is known by its "
            "reports alone",
            hint="Its node's lease is waited for.",
        )
