"""What runs of a failover do to a simulated cluster, at once: leases ended, agents placed anew.

The plan is that of the live runs (`plan_relocation`). A move is checked against the truth at the
moment of acting: no copy that is left behind can still write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fleet.agents import Placement
from fleet.failover.limit_checks import Violation
from fleet.inventory import AgentPhase
from fleet.leases import fence_times
from fleet.placement.parking import NO_NODE
from fleet.relocation import RelocationTargets, plan_relocation
from ops.failover_planning import WAITING_ATTEMPTS
from resources.simulated.clock import as_microseconds
from resources.simulated.cluster import SimulatedCluster
from resources.simulated.nodes import Copy, SimulatedNode
from resources.simulated.sight import FleetSight

TARGETS = 32
"""Nodes that the agents of one node are dealt over: the emptiest whole ones of its region. A live
run is given all of them and takes the emptiest as well; a plan over thousands costs 50 ms."""

_ARRIVED = frozenset({AgentPhase.RUNNING, AgentPhase.COMPLETED})


class DayMoves:
    """Places agents anew, and keeps who has not arrived and who may run twice.

    Args:
        cluster: to move on.
        sight: whose counts of agents and whose leases follow the moves.
        term: of the controller.
    """

    def __init__(self, cluster: SimulatedCluster, sight: FleetSight, term: int) -> None:
        """Nobody was moved."""
        self._cluster, self._sight, self._term = cluster, sight, term
        self._machinery = cluster.machinery
        self._guard_us = as_microseconds(fence_times(cluster.lease_ttl_s).kill_after_s)
        self._waiting: dict[str, set[str]] = {}
        self._doubled: set[str] = set()
        self.agents_moved = self.agents_parked = 0
        self.violations: list[Violation] = []

    def move_node(self, name: str, incident: str, whole: Any, attempt: int) -> None:
        """Move the agents of a node inside its region; `whole` marks nodes that may take them.

        Without a place they wait for the next attempt, some times, as in live runs.
        """
        sight = self._sight
        own = sight.region_index[sight.position(name)]
        near = np.flatnonzero(whole & (sight.region_index == own))
        chosen = near[np.argsort(sight.agents[near], kind="stable")[:TARGETS]]
        waits = attempt <= WAITING_ATTEMPTS
        self._move([name], incident, chosen, (), at_home=True, waits=waits)

    def evacuate(self, names: Sequence[str], region: str, incident: str, whole: Any) -> None:
        """Move the agents of a region's nodes into all other regions, by name."""
        others = tuple(one for one in self._sight.regions if one != region)
        targets = np.flatnonzero(whole)
        self._move(names, incident, targets, others, at_home=False, waits=False)

    def park(self, agent_id: str) -> None:
        """Take an agent that crashes again and again off its node."""
        placed = self._machinery.placements[agent_id]
        self._apply(
            [(placed, placed._replace(node_id=NO_NODE, desired="parked", reason="crash loop"))]
        )

    def _move(
        self,
        names: Sequence[str],
        incident: str,
        targets: Any,
        regions: tuple[str, ...],
        *,
        at_home: bool,
        waits: bool,
    ) -> None:
        machinery, sight = self._machinery, self._sight
        sight.beats.fence([sight.position(name) for name in names], machinery.now_us)
        nodes = [sight.names[position] for position in targets.tolist()]
        moves = plan_relocation(
            self._placed_on(names),
            self._placed_on(nodes),
            machinery.agents,
            RelocationTargets(
                [machinery.nodes[name].declaration for name in nodes], regions, 0.0, at_home
            ),
            because=f"{incident} was lost",
            now=self._cluster.clock.now(),
            term=self._term,
        )
        if waits:
            moves = [one for one in moves if one.after.node_id != NO_NODE]
        self._check_left_behind([before for before, _ in moves])
        self._apply(list(moves))
        moved = {after.agent_id for _, after in moves if after.node_id != NO_NODE}
        self._waiting.setdefault(incident, set()).update(moved)
        self._doubled.update(before.agent_id for before, _ in moves)

    def _placed_on(self, names: Sequence[str]) -> list[Placement]:
        placements = self._machinery.placements
        return [placements[one] for name in names for one in self._machinery.assigned.get(name, ())]

    def _apply(self, moves: Sequence[tuple[Placement, Placement]]) -> None:
        """Store what was planned under the next epochs, and count anew."""
        sight = self._sight
        self._cluster.apply_placements(
            [after._replace(epoch=before.epoch + 1, term=self._term) for before, after in moves]
        )
        for before, after in moves:
            sight.agents[sight.position(before.node_id)] -= 1
            if after.node_id == NO_NODE:
                self.agents_parked += 1
            else:
                sight.agents[sight.position(after.node_id)] += 1
                self.agents_moved += 1

    # -- what has become of them -----------------------------------------------------------------

    def pending(self, incident: str) -> int:
        """Agents that an incident has moved and that have not started where they are placed."""
        waiting = self._waiting.get(incident)
        if not waiting:
            return 0
        waiting -= {one for one in waiting if self._has_arrived(one)}
        return len(waiting)

    def end(self, incident: str) -> None:
        """Nobody asks for this incident any more."""
        self._waiting.pop(incident, None)

    def _has_arrived(self, agent_id: str) -> bool:
        placed = self._machinery.placements[agent_id]
        node = self._machinery.nodes.get(placed.node_id)
        copy = None if node is None else node.copies.get(agent_id)
        if copy is None or not copy.exists:
            return placed.desired != "running"
        return copy.last.epoch == placed.epoch and copy.last.phase in _ARRIVED

    # -- promises --------------------------------------------------------------------------------

    def check(self) -> None:
        """Of every agent that was moved at most one copy can act."""
        for agent_id in list(self._doubled):
            copies = self._machinery.copies.get(agent_id, ())
            if len(copies) < 2:
                self._doubled.discard(agent_id)
            elif len(able := [one for one in copies if self._can_write(one)]) > 1:
                names = ", ".join(one.node.declaration.node_id for one in able)
                self.violations.append(Violation("one_writer", f"agent/{agent_id}", names))

    def _check_left_behind(self, placements: Sequence[Placement]) -> None:
        for placed in placements:
            for copy in self._machinery.copies.get(placed.agent_id, ()):
                if copy.node.declaration.node_id == placed.node_id and self._can_write(copy):
                    detail = f"epoch {placed.epoch} still acts on {placed.node_id}"
                    subject = f"agent/{placed.agent_id}"
                    self.violations.append(Violation("fenced_before_move", subject, detail))

    def _can_write(self, copy: Copy) -> bool:
        """Its node works, and the node's guard has not stopped it yet."""
        node: SimulatedNode = copy.node
        if not (copy.runs and node.condition.works):
            return False
        sent_us = int(self._sight.beats.sent_us[self._sight.position(node.declaration.node_id)])
        return self._machinery.now_us - sent_us <= self._guard_us
