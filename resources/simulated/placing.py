"""Which placements are in force, which may replace them, and who is waiting for one."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.agents import Placement
from fleet.errors import InvalidInputError, NotFoundError, StaleEpochError
from fleet.reports import unplaced
from resources.simulated.machinery import Machinery

DESIRED = ("running", "stopped", "parked")
"""What a placement may wish; only `running` needs a node."""


class PlacementBook:
    """Judges placements and hands them to the machinery."""

    def __init__(self, machinery: Machinery) -> None:
        """Write into `machinery`."""
        self._machinery = machinery
        self.reasons: dict[str, str] = {}
        """agent_id -> why it has no placement yet."""

    def apply(self, placements: Sequence[Placement], since_us: int | None = None) -> None:
        """Judge all placements, then store them and let their nodes follow; all or none.

        Args:
            placements: in any order; of several for one agent the last one holds.
            since_us: when what starts is said to have started; None means now.

        Raises:
            StaleEpochError: lower epoch or term than the one in force, or the same epoch elsewhere.
            NotFoundError: unknown agent or node.
            InvalidInputError: epoch, `desired` or region out of what is allowed.
        """
        machinery = self._machinery
        judged: dict[str, Placement] = {}
        for placement in placements:
            before = judged.get(placement.agent_id, machinery.placements.get(placement.agent_id))
            self._judge(placement, before)
            judged[placement.agent_id] = placement
        touched: dict[str, None] = {}
        for placement in judged.values():
            old = machinery.placements.get(placement.agent_id)
            if old is not None:
                touched[old.node_id] = None
            machinery.place(placement)
            touched[placement.node_id] = None
        for node_id in touched:
            if node_id:
                machinery.reconcile(machinery.nodes[node_id], since_us)

    def in_region(self, region: str) -> list[Placement]:
        """Placements in a region, with a row for each agent at home there that has none yet."""
        machinery = self._machinery
        placed = machinery.placements
        found = [placement for placement in placed.values() if placement.region == region]
        if len(placed) < len(machinery.agents):
            for agent in machinery.agents.values():
                if agent.region == region and agent.agent_id not in placed:
                    pending = unplaced(agent)
                    reason = self.reasons.get(agent.agent_id, pending.reason)
                    found.append(pending._replace(reason=reason))
        found.sort()
        return found

    def _judge(self, placement: Placement, before: Placement | None) -> None:
        """Refuse a placement that names what is not there, or that a newer one has replaced."""
        agent_id, node_id = placement.agent_id, placement.node_id
        if agent_id not in self._machinery.agents:
            raise NotFoundError(f"agent {agent_id} is not declared to the simulated cluster")
        if placement.desired not in DESIRED:
            raise InvalidInputError("desired", placement.desired, ", ".join(DESIRED))
        if placement.epoch < 1:
            raise InvalidInputError("epoch", placement.epoch, f"at least 1 (agent {agent_id})")
        if node_id or placement.desired == "running":
            node = self._machinery.nodes.get(node_id)
            if node is None:
                raise NotFoundError(f"agent {agent_id}: node {node_id!r} is not in the cluster")
            if node.declaration.region != placement.region:
                raise InvalidInputError(
                    "region", placement.region, f"{node.declaration.region}, where {node_id} is"
                )
        if before is not None and not may_replace(before, placement):
            raise StaleEpochError(
                f"agent {agent_id}: epoch {placement.epoch} (term {placement.term}) on "
                f"{node_id or 'no node'} is refused; epoch {before.epoch} (term {before.term}) on "
                f"{before.node_id or 'no node'} is in force",
                hint="Read the placements again and plan on them.",
            )


def may_replace(old: Placement, new: Placement) -> bool:
    """Tell whether `new` has a higher epoch, or the same one on the same node; never a lower term.

    The same epoch on the same node may change what is desired.
    """
    if new.term < old.term or new.epoch < old.epoch:
        return False
    return new.epoch > old.epoch or new.node_id == old.node_id
