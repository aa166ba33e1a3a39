"""Where the agents of lost nodes go: into their own region first, then where the caller allows.

The most important go first, so that a shortage of room parks the least important ones. A node that
is not whole is no target; a target keeps its head-room, so that a region that takes another one's
agents in is not overloaded by them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.agents import Placement
from fleet.placement.parking import NO_NODE
from fleet.placement.requests import NO_RULES, PlacementRules
from fleet.reports import AgentDeclaration, NodeDeclaration
from fleet.rooms import Room, Shape, deal, few, shape_of


class Move(NamedTuple):
    """One agent that leaves its node."""

    before: Placement
    """As stored; the compare-and-swap is made on its epoch."""
    after: Placement
    """To store, with the epoch it was planned on; parked on no node when there is no room."""


class RelocationTargets(NamedTuple):
    """Which nodes may take agents in."""

    nodes: Sequence[NodeDeclaration]
    """Whole ones only; never one that is being left."""
    regions: Sequence[str]
    """Regions beside an agent's present one, in the order in which they are tried."""
    head_room: float = 0.0
    """Share of each target that stays free, 0 to below 1."""
    at_home: bool = True
    """Whether the region that an agent is in is tried first; not when all of it is left."""
    rules: Mapping[str, PlacementRules] = {}
    """By workload: which GPU models its agents need."""


def plan_relocation(
    leaving: Iterable[Placement],
    staying: Iterable[Placement],
    shapes: Mapping[str, AgentDeclaration],
    targets: RelocationTargets,
    *,
    because: str,
    now: datetime,
    term: int,
) -> list[Move]:
    """Plan where agents go that must leave their nodes, most important first.

    Args:
        leaving: placements to move, or parked ones to try again; stopped ones are left alone.
        staying: all other placements; those on targets take room there.
        shapes: declarations by agent id; an agent that is not declared any more is parked.
        targets: where to.
        because: begins every reason, for example `node eu-1 was lost`.
        now: becomes `updated_at`.
        term: of the controller that moves.

    Returns:
        One move for each agent of `leaving` that should run, ordered by agent id.
    """
    moving = {one.agent_id: one for one in leaving if one.desired != "stopped"}
    rooms = _rooms(targets, staying, shapes, moving)
    stamp = _Stamp(because, now, term)
    moves = [
        stamp.parked(one, "it is not declared any more")
        for one in moving.values()
        if one.agent_id not in shapes
    ]
    for agents in _in_order(moving, shapes):
        region = moving[agents[0].agent_id].region
        shape = _shape(agents[0], targets)
        order = dict.fromkeys([*([region] if targets.at_home else []), *targets.regions])
        left, lacking = agents, list[str]()
        for one in order:
            dealt = deal(shape, left, rooms.get(one, ()))
            lacking += dealt.shortages
            left = list(dealt.left)
            moves += [
                stamp.placed(moving[agent.agent_id], room.node, reason)
                for agent, room, reason in dealt.placed
            ]
        where = ", ".join(order) or "any region"
        why = f"no node of {where} has room: {few(lacking)}" if lacking else f"{where} has no node"
        moves += [stamp.parked(moving[agent.agent_id], why) for agent in left]
    return sorted(moves)


class _Stamp(NamedTuple):
    """What all placements of a plan have in common."""

    because: str
    now: datetime
    term: int

    def placed(self, before: Placement, node: NodeDeclaration, reason: str) -> Move:
        """Onto a node."""
        return Move(before, self._after(before, node.node_id, node.region, "running", reason))

    def parked(self, before: Placement, reason: str) -> Move:
        """Onto none, in the region where it was."""
        said = f"parked: {reason}"
        return Move(before, self._after(before, NO_NODE, before.region, "parked", said))

    def _after(
        self, before: Placement, node_id: str, region: str, desired: str, reason: str
    ) -> Placement:
        return before._replace(
            node_id=node_id,
            region=region,
            term=self.term,
            desired=desired,
            reason=f"{self.because}; {reason}",
            updated_at=self.now,
        )


def _rooms(
    targets: RelocationTargets,
    staying: Iterable[Placement],
    shapes: Mapping[str, AgentDeclaration],
    moving: Collection[str],
) -> dict[str, list[Room]]:
    """What is left on the targets, by region."""
    rooms = {node.node_id: Room(node, targets.head_room) for node in targets.nodes}
    present = [
        (rooms[one.node_id], shapes[one.agent_id])
        for one in staying
        if one.node_id in rooms and one.agent_id in shapes and one.agent_id not in moving
    ]
    # Devices hold what is there in many orders; the biggest first finds one that fits.
    present.sort(key=lambda pair: (-pair[1].gpu_milli, -pair[1].gpu_memory_bytes))
    for room, agent in present:
        room.take(_shape(agent, targets))
    by_region: dict[str, list[Room]] = defaultdict(list)
    for room in rooms.values():
        by_region[room.node.region].append(room)
    return by_region


def _shape(agent: AgentDeclaration, targets: RelocationTargets) -> Shape:
    return shape_of(agent, targets.rules.get(agent.workload, NO_RULES))


def _in_order(
    moving: Mapping[str, Placement], shapes: Mapping[str, AgentDeclaration]
) -> list[list[AgentDeclaration]]:
    """Groups of like agents in one region, the highest priority first."""
    groups: dict[tuple[object, ...], list[AgentDeclaration]] = defaultdict(list)
    for agent_id in sorted(moving):
        shape = shapes.get(agent_id)
        if shape is not None:
            key = (-shape.priority, moving[agent_id].region, shape_of(shape))
            groups[key].append(shape)
    return [groups[key] for key in sorted(groups)]
