"""Where agents are placed first: dealt evenly over the nodes of their region.

Every agent has a home region; it never leaves it here. What is placed stays placed, so that a
second start of the same fleet moves nothing. An agent that fits nowhere is parked with the reason,
which an operator reads in its row, instead of being squeezed onto a full node.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.agents import Placement
from fleet.reports import AgentDeclaration, NodeDeclaration

NO_NODE = ""
"""node_id of a placement that is parked because no node can take the agent."""


class _Shape(NamedTuple):
    """Identical agents: the unit of dealing."""

    region: str
    workload: str
    cpu_milli: int
    memory_bytes: int
    bandwidth_bps: int
    gpu_milli: int
    gpu_memory_bytes: int


class _Room:
    """What is left on one node while a plan is made."""

    def __init__(self, node: NodeDeclaration) -> None:
        self.node = node
        self.agents = 0
        self.by_workload: dict[str, int] = defaultdict(int)
        self._free = {
            "cpu_milli": node.cpu_milli,
            "memory_bytes": node.memory_bytes,
            "bandwidth_bps": node.bandwidth_bps,
            "gpu_milli": 1000 * node.gpu_count,
            "gpu_memory_bytes": node.gpu_memory_bytes,
        }
        if node.bandwidth_bps == 0:  # none declared: not limited
            del self._free["bandwidth_bps"]

    def shortage(self, shape: _Shape | AgentDeclaration) -> str:
        """What is lacking for one more agent, in words; empty when it fits."""
        for quantity, free in self._free.items():
            wanted = getattr(shape, quantity)
            if wanted > free:
                return f"{self.node.node_id} has {quantity} {free} of {wanted}"
        return ""

    def take(self, shape: _Shape | AgentDeclaration) -> None:
        for quantity in self._free:
            self._free[quantity] -= getattr(shape, quantity)
        self.agents += 1
        self.by_workload[shape.workload] += 1


def plan_initial_placements(
    agents: Sequence[AgentDeclaration],
    nodes: Sequence[NodeDeclaration],
    existing: Iterable[Placement],
    *,
    now: datetime,
    term: int = 0,
) -> list[Placement]:
    """Place the agents that have no node yet, evenly per workload, within each node's capacity.

    An existing placement stays while its node is declared in the agent's region; a parked one is
    tried again. Agents are dealt by workload to the node with the fewest agents of that workload,
    then the fewest agents, then the first name; O((agents + nodes) log nodes).

    Args:
        agents: all declared agents.
        nodes: all declared nodes.
        existing: placements as stored, of any agents.
        now: becomes `updated_at`.
        term: of the controller that places.

    Returns:
        Only the placements to store, ordered by agent_id, each with the epoch it was planned on
        (0 when new); empty when nothing has to change.
    """
    rooms = {node.node_id: _Room(node) for node in nodes}
    stored = {placement.agent_id: placement for placement in existing}
    waiting: dict[_Shape, list[AgentDeclaration]] = defaultdict(list)
    for agent in sorted(agents):
        placed = stored.get(agent.agent_id)
        room = rooms.get(placed.node_id) if placed is not None else None
        if room is not None and room.node.region == agent.region and _is_settled(placed):
            room.take(agent)
        else:
            waiting[_shape_of(agent)].append(agent)
    planned = []
    for shape in sorted(waiting):
        local = [room for room in rooms.values() if room.node.region == shape.region]
        for agent, room, reason in _deal(shape, waiting[shape], local):
            placement = _placement(agent, room, stored.get(agent.agent_id), reason, now, term)
            if placement is not None:
                planned.append(placement)
    return sorted(planned)


def _is_settled(placed: Placement | None) -> bool:
    return placed is not None and placed.desired != "parked"


def _shape_of(agent: AgentDeclaration) -> _Shape:
    return _Shape(
        agent.region,
        agent.workload,
        agent.cpu_milli,
        agent.memory_bytes,
        agent.bandwidth_bps,
        agent.gpu_milli,
        agent.gpu_memory_bytes,
    )


def _deal(
    shape: _Shape, agents: list[AgentDeclaration], rooms: list[_Room]
) -> list[tuple[AgentDeclaration, _Room | None, str]]:
    """Deal identical agents; a node that lacks room for one lacks it for all that follow."""
    heap = [(room.by_workload[shape.workload], room.agents, room.node.node_id) for room in rooms]
    heapq.heapify(heap)
    by_id = {room.node.node_id: room for room in rooms}
    shortages: list[str] = []
    dealt: list[tuple[AgentDeclaration, _Room | None, str]] = []
    for agent in agents:
        chosen = None
        while heap and chosen is None:
            _, _, node_id = heapq.heappop(heap)
            lacking = by_id[node_id].shortage(shape)
            if lacking:
                shortages.append(lacking)
            else:
                chosen = by_id[node_id]
        if chosen is None:
            dealt.append((agent, None, _parked_reason(shape.region, shortages)))
            continue
        chosen.take(shape)
        count = chosen.by_workload[shape.workload]
        reason = f"dealt to {chosen.node.node_id}: agent {count} of {shape.workload} there"
        dealt.append((agent, chosen, reason))
        heapq.heappush(heap, (count, chosen.agents, chosen.node.node_id))
    return dealt


def _parked_reason(region: str, shortages: list[str]) -> str:
    if not shortages:
        return f"parked: region {region} has no node"
    shown = "; ".join(sorted(shortages)[:3])
    more = f"; and {len(shortages) - 3} more nodes" if len(shortages) > 3 else ""
    return f"parked: no node of {region} has room: {shown}{more}"


def _placement(
    agent: AgentDeclaration,
    room: _Room | None,
    stored: Placement | None,
    reason: str,
    now: datetime,
    term: int,
) -> Placement | None:
    """The placement to store; None when it is parked already."""
    if room is None and stored is not None and stored.desired == "parked":
        return None
    return Placement(
        agent_id=agent.agent_id,
        network_id=agent.network_id,
        workload=agent.workload,
        node_id=NO_NODE if room is None else room.node.node_id,
        region=agent.region,
        epoch=0 if stored is None else stored.epoch,
        term=term,
        desired="parked" if room is None else "running",
        reason=reason,
        updated_at=now,
    )
