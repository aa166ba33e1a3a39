"""What really happens in a simulated cluster, apart from what anybody can see.

For tests of decisions that must be made without this knowledge: was the node that was declared
dead really dead, did two copies of an agent work at once, did hidden agents go on working.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from fleet.errors import NotFoundError
from fleet.inventory import AgentPhase
from resources.simulated.clock import MICROSECONDS
from resources.simulated.events import TrueEvent
from resources.simulated.faulting import ALL_REGIONS
from resources.simulated.machinery import Machinery
from resources.simulated.nodes import Copy, SimulatedNode


class TrueNode(NamedTuple):
    """A node as it is."""

    node_id: str
    up: bool
    works: bool
    """Up and not paused: its agents make progress."""
    reaches_store: bool
    """Its heartbeats arrive, its agents can persist states, it learns of new placements."""
    reaches_controller: bool
    skew_s: float
    boot_id: str
    worked_s: float
    """Time worked since it was declared."""


class TrueCopy(NamedTuple):
    """One agent on one node, as it is."""

    agent_id: str
    node_id: str
    epoch: int
    phase: AgentPhase
    works: bool
    """Its process runs on a node that works."""
    reaches_store: bool
    worked_s: float
    """Time its processes have worked on this node."""


class GroundTruth:
    """Reads the machinery; changes nothing."""

    def __init__(self, machinery: Machinery) -> None:
        """Look at `machinery` as it is at each call."""
        self._machinery = machinery

    def node(self, node_id: str) -> TrueNode:
        """One node as it is now.

        Raises:
            NotFoundError: no such node.
        """
        node = self._node(node_id)
        condition = node.condition
        return TrueNode(
            node_id=node_id,
            up=condition.up,
            works=condition.works,
            reaches_store=condition.up and not condition.store_cut,
            reaches_controller=condition.up and not condition.controller_cut,
            skew_s=condition.skew_us / MICROSECONDS,
            boot_id=f"{node_id}.{node.boot}",
            worked_s=node.work_clock_us(self._machinery.now_us) / MICROSECONDS,
        )

    def reaches_region(self, node_id: str, region: str) -> bool:
        """Tell whether a node that is up can talk to (nodes of) a region, both sides considered.

        Raises:
            NotFoundError: no such node.
        """
        node = self._node(node_id)
        own = node.declaration.region
        if not node.condition.up:
            return False
        if own == region:
            return True
        if not {ALL_REGIONS, region}.isdisjoint(node.condition.cut_regions):
            return False
        peers = [n for n in self._machinery.nodes.values() if n.declaration.region == region]
        cut = sum(1 for n in peers if not {ALL_REGIONS, own}.isdisjoint(n.condition.cut_regions))
        return cut < len(peers)

    def copies(self, agent_id: str) -> list[TrueCopy]:
        """Every copy of an agent, ordered by node_id; two that work are a zombie and its heir."""
        held = [self._copy(copy) for copy in self._machinery.copies.get(agent_id, ())]
        return sorted(held, key=lambda copy: copy.node_id)

    def doubled_agents(self) -> list[str]:
        """Agents of which more than one copy has a process, ordered."""
        return sorted(
            agent_id
            for agent_id, copies in self._machinery.copies.items()
            if len(copies) > 1 and sum(copy.runs for copy in copies) > 1
        )

    def events(self) -> list[TrueEvent]:
        """The newest events, oldest first; how many are kept is the cluster's `events_kept`."""
        return list(self._machinery.queue.history)

    def count(self) -> int:
        """How many events have happened since the start, kept or not."""
        return self._machinery.queue.recorded

    def digest(self) -> str:
        """SHA-256 over all events since the start: equal histories have equal digests."""
        return self._machinery.queue.digest()

    def at(self, event: TrueEvent) -> datetime:
        """When an event happened."""
        return self._machinery.clock.at(event.at_us)

    def _node(self, node_id: str) -> SimulatedNode:
        node = self._machinery.nodes.get(node_id)
        if node is None:
            raise NotFoundError(f"node {node_id} is not part of the simulated cluster")
        return node

    def _copy(self, copy: Copy) -> TrueCopy:
        phase = copy.last.phase
        assert phase is not None
        condition = copy.node.condition
        return TrueCopy(
            agent_id=copy.agent_id,
            node_id=copy.node.declaration.node_id,
            epoch=copy.last.epoch,
            phase=phase,
            works=copy.runs and condition.works,
            reaches_store=condition.up and not condition.store_cut,
            worked_s=copy.work_us(self._machinery.now_us) / MICROSECONDS,
        )
