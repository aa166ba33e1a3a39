"""The condition of every node of a simulated cluster in columns, kept by what happens.

A node's condition changes only at events, and every change is in the cluster's history. So after a
first look at all nodes only those are looked at again that the history names: the cost of a look is
that of the changes since the last one, whatever the size of the fleet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fleet.errors import InvalidInputError
from fleet.failover.columns import Infrastructure
from fleet.inventory import NodePhase
from resources.simulated.faulting import ALL_REGIONS
from resources.simulated.heartbeats import Condition
from resources.simulated.machinery import Machinery, infrastructure_phase

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fleet.failover.columns import BoolArray, IntArray
    from resources.simulated.nodes import SimulatedNode

    Positions = npt.NDArray[np.intp]

_PLAIN = Condition()

_CODES = {phase: Infrastructure.of(phase) for phase in NodePhase}


class ConditionColumns:
    """What is so, for every node, in the order of names.

    Args:
        machinery: of a cluster whose nodes are all declared.

    Attributes:
        names: of all nodes, sorted; the order of all arrays.
        nodes: the same, as the machinery knows them.
        regions: names of all regions, sorted; `region_index` points here.
        plain: nothing at all is wrong with it.
        works: up and not paused.
        store_cut: its heartbeats and reports do not arrive.
        controller_cut: the controller's probes do not arrive.
        cut: nodes x regions; nothing passes between the node and (other nodes of) the region.
        boot: number of its present boot.
        infrastructure: what the infrastructure says, as codes of `Infrastructure`.
    """

    def __init__(self, machinery: Machinery) -> None:
        """Look at every node once."""
        import numpy as np

        self._machinery = machinery
        self.names = tuple(sorted(machinery.nodes))
        self.nodes: list[SimulatedNode] = [machinery.nodes[name] for name in self.names]
        self._positions = {name: position for position, name in enumerate(self.names)}
        declared = [node.declaration for node in self.nodes]
        self.regions = tuple(sorted({one.region for one in declared}))
        self._numbers = {region: number for number, region in enumerate(self.regions)}
        self.region_index: IntArray = np.array(
            [self._numbers[one.region] for one in declared], dtype=np.int32
        )
        size = len(self.names)
        self.plain: BoolArray = np.ones(size, dtype=bool)
        self.works: BoolArray = np.ones(size, dtype=bool)
        self.store_cut: BoolArray = np.zeros(size, dtype=bool)
        self.controller_cut: BoolArray = np.zeros(size, dtype=bool)
        self.cut: BoolArray = np.zeros((size, len(self.regions)), dtype=bool)
        self.boot: npt.NDArray[np.int64] = np.ones(size, dtype=np.int64)
        self.infrastructure: npt.NDArray[np.int8] = np.zeros(size, dtype=np.int8)
        self._read = machinery.queue.recorded
        for position in range(size):
            self._take(position)

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.names)

    def position(self, name: str) -> int:
        """Where a node stands in the columns."""
        return self._positions[name]

    def follow(self) -> list[int]:
        """Take over what has happened since the last look.

        Returns:
            Positions of the nodes whose condition has changed, ascending.

        Raises:
            NotFoundError: more has happened than the history keeps.
            InvalidInputError: nodes were declared since; columns are of a fixed set of nodes.
        """
        if len(self._machinery.nodes) != len(self.names):
            allowed = f"the {len(self.names)} that were there at first; make new columns"
            raise InvalidInputError("nodes", len(self._machinery.nodes), allowed)
        queue = self._machinery.queue
        found = {
            event.subject for event in queue.since(self._read) if event.kind.startswith("node_")
        }
        self._read = queue.recorded
        changed = sorted(self._positions[name] for name in found)
        for position in changed:
            self._take(position)
        return changed

    def _take(self, position: int) -> None:
        node = self.nodes[position]
        condition = node.condition
        self.plain[position] = condition == _PLAIN
        self.works[position] = condition.works
        self.store_cut[position] = condition.store_cut
        self.controller_cut[position] = condition.controller_cut
        self.boot[position] = node.boot
        self.infrastructure[position] = _CODES[infrastructure_phase(node)]
        self.cut[position] = ALL_REGIONS in condition.cut_regions
        for region in condition.cut_regions - {ALL_REGIONS}:
            self.cut[position, self._numbers[region]] = True

    def reach(self, senders: Positions, receivers: Positions) -> BoolArray:
        """Whether requests of these nodes get answers of those, pair by pair; shapes broadcast.

        Both ends must work. Inside a region everybody reaches everybody; across, neither end may
        be cut off from the other's region.
        """
        own, other = self.region_index[senders], self.region_index[receivers]
        apart = self.cut[senders, other] | self.cut[receivers, own]
        found: BoolArray = self.works[senders] & self.works[receivers] & ((own == other) | ~apart)
        return found

    def zones(self) -> Sequence[tuple[str, str]]:
        """Region and zone of each node."""
        return [(node.declaration.region, node.declaration.zone) for node in self.nodes]
