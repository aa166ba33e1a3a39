"""What is left on nodes while a plan is made, and how identical agents are dealt over them.

Agents of one shape are dealt together: a node that lacks room for one lacks it for all that follow,
so that a plan costs O((agents + nodes) log nodes) for each shape, not agents times nodes.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from typing import NamedTuple

from fleet.placement.gpu_slots import GpuSlots
from fleet.placement.requests import NO_RULES, PlacementRules, size_of
from fleet.reports import AgentDeclaration, NodeDeclaration


class Shape(NamedTuple):
    """Identical agents: the unit of dealing."""

    region: str
    workload: str
    cpu_milli: int
    memory_bytes: int
    bandwidth_bps: int
    gpu_milli: int
    gpu_memory_bytes: int
    gpu_models: tuple[str, ...] = ()
    """Any of these; empty: any."""


def shape_of(agent: AgentDeclaration, rules: PlacementRules = NO_RULES) -> Shape:
    """What an agent has in common with those that it is dealt with."""
    return Shape(
        agent.region,
        agent.workload,
        agent.cpu_milli,
        agent.memory_bytes,
        agent.bandwidth_bps,
        agent.gpu_milli,
        agent.gpu_memory_bytes,
        rules.gpu_models,
    )


class Room:
    """What is left on one node while a plan is made.

    Args:
        node: as declared.
        head_room: share of each quantity that the plan leaves free, 0 to below 1.
    """

    def __init__(self, node: NodeDeclaration, head_room: float = 0.0) -> None:
        """Nothing is taken yet."""
        self.node = node
        self.agents = 0
        self.by_workload: dict[str, int] = defaultdict(int)
        self._free = {
            "cpu_milli": node.cpu_milli,
            "memory_bytes": node.memory_bytes,
            "bandwidth_bps": node.bandwidth_bps,
        }
        if head_room:
            self._free = {name: int(free * (1 - head_room)) for name, free in self._free.items()}
        if node.bandwidth_bps == 0:  # none declared: not limited
            del self._free["bandwidth_bps"]
        self._gpus = GpuSlots(node, head_room)

    def copy(self) -> Room:
        """The same room, from which taking leaves this one as it is."""
        found = copy(self)
        found.by_workload = self.by_workload.copy()
        found._free = self._free.copy()  # noqa: SLF001 - of this class
        found._gpus = self._gpus.copy()  # noqa: SLF001 - of this class
        return found

    def shortage(self, shape: Shape | AgentDeclaration) -> str:
        """What is lacking for one more agent, in words; empty when it fits."""
        for quantity, free in self._free.items():
            wanted = getattr(shape, quantity)
            if wanted > free:
                return f"{self.node.node_id} has {quantity} {free} of {wanted}"
        size = size_of(shape)
        if not size.needs_gpu:
            return ""
        models = shape.gpu_models if isinstance(shape, Shape) else ()
        if models and self.node.gpu_model not in models:
            wanted = " or ".join(models)
            return (
                f"{self.node.node_id} has gpu_model {self.node.gpu_model or 'none'}, not {wanted}"
            )
        if self._gpus.find(size) is not None:
            return ""
        if self._gpus.free_milli < size.gpu_milli:
            return f"{self.node.node_id} has gpu_milli {self._gpus.free_milli} of {size.gpu_milli}"
        return (
            f"{self.node.node_id} has no device with gpu_milli {size.gpu_milli} and "
            f"gpu_memory_bytes {size.gpu_memory_bytes} left"
        )

    def take(self, shape: Shape | AgentDeclaration) -> None:
        """Reserve what one agent needs, whether or not it is there."""
        for quantity in self._free:
            self._free[quantity] -= getattr(shape, quantity)
        claim = self._gpus.find(size_of(shape))
        if claim is not None:
            self._gpus.take(claim)
        self.agents += 1
        self.by_workload[shape.workload] += 1


class Dealt(NamedTuple):
    """Where the agents of one shape go."""

    placed: list[tuple[AgentDeclaration, Room, str]]
    """Each with its room and the reason."""
    left: Sequence[AgentDeclaration]
    """Those for which no node has room."""
    shortages: list[str]
    """What the full nodes lack, in words."""


def deal(shape: Shape, agents: Sequence[AgentDeclaration], rooms: Iterable[Room]) -> Dealt:
    """Deal identical agents to the node with the fewest of their workload, then the fewest agents.

    Then by name, so that the same plan is made whoever lists the nodes.
    """
    by_id = {room.node.node_id: room for room in rooms}
    heap = [
        (room.by_workload[shape.workload], room.agents, node_id) for node_id, room in by_id.items()
    ]
    heapq.heapify(heap)
    dealt = Dealt([], agents, [])
    for number, agent in enumerate(agents):
        chosen = None
        while heap and chosen is None:
            _, _, node_id = heapq.heappop(heap)
            lacking = by_id[node_id].shortage(shape)
            if lacking:
                dealt.shortages.append(lacking)
            else:
                chosen = by_id[node_id]
        if chosen is None:
            return dealt._replace(left=agents[number:])
        chosen.take(shape)
        count = chosen.by_workload[shape.workload]
        node_id = chosen.node.node_id
        reason = f"dealt to {node_id}: agent {count} of {shape.workload} there"
        dealt.placed.append((agent, chosen, reason))
        heapq.heappush(heap, (count, chosen.agents, node_id))
    return dealt._replace(left=())


def few(shortages: Iterable[str], shown_max: int = 3) -> str:
    """Some of the shortages, and how many more there are: an operator reads three, not a thousand.

    Returns:
        Empty when there are none.
    """
    told = sorted(shortages)
    more = f"; and {len(told) - shown_max} more nodes" if len(told) > shown_max else ""
    return "; ".join(told[:shown_max]) + more
