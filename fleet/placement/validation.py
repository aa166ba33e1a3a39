"""Which placements of a batch are still possible, judged against what is in force at that moment.

The last step before a compare-and-swap: a plan was made on a reading that may be old by now. What
is judged are sums per node and network; which device of a node an agent shares is its node's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fleet.agents import Placement
from fleet.placement.quotas import NetworkLimits, ResourceUse, check_quota
from fleet.placement.requests import GPU_MILLI, AgentSize, size_of
from fleet.reports import AgentDeclaration, NodeDeclaration

NOWHERE = ("", 0)
"""Node and epoch of an agent that was never placed."""


def select_possible(
    batch: Sequence[Placement],
    shapes: Mapping[str, AgentDeclaration],
    current: Mapping[str, tuple[str, int]],
    nodes: Mapping[str, tuple[NodeDeclaration, AgentSize]],
    limits: Mapping[str, tuple[NetworkLimits, ResourceUse]],
) -> list[Placement]:
    """Keep what every node and network concerned can take; all of a node or network, or none of it.

    A placement on no node needs nothing. An agent that stays on its node, or goes to another one,
    uses no more of its network's quota than before.

    Args:
        batch: placements to store.
        shapes: of their agents; one that is not declared is kept, for the swap to refuse.
        current: agent_id -> node and epoch that it has now; absent: none, and epoch 0.
        nodes: of the batch that are declared, each with what all agents on it have together.
        limits: of the batch's networks that have some, each with what is in use.

    Returns:
        The placements that are possible, in the same order; none that was overtaken.
    """
    # Who was overtaken neither comes nor goes; the swap will refuse it.
    batch = [one for one in batch if one.epoch == current.get(one.agent_id, NOWHERE)[1]]
    asked: dict[str, list[int]] = defaultdict(lambda: [0] * len(AgentSize._fields))
    for placed in batch:
        shape, (node_id, _) = shapes.get(placed.agent_id), current.get(placed.agent_id, NOWHERE)
        if shape is not None and placed.node_id != node_id:
            for name, sign in ((placed.node_id, 1), (node_id, -1)):
                sums = asked[name]
                for index, amount in enumerate(size_of(shape)):
                    sums[index] += sign * amount
    refused = {
        placed.node_id
        for placed in batch
        if placed.node_id
        and (
            placed.node_id not in nodes
            or _is_overdrawn(*nodes[placed.node_id], asked[placed.node_id])
        )
    }
    kept = [placed for placed in batch if placed.node_id not in refused]
    over = _networks_over(kept, shapes, current, limits)
    return [
        placed
        for placed in kept
        if placed.network_id not in over or not _is_new(placed, shapes, current)
    ]


def _is_overdrawn(node: NodeDeclaration, used: AgentSize, asked: Sequence[int]) -> bool:
    """Whether more is asked of any quantity than there is left of it."""
    capacity = AgentSize(
        node.cpu_milli,
        node.memory_bytes,
        node.bandwidth_bps,
        node.gpu_count * GPU_MILLI,
        node.gpu_memory_bytes,
    )
    return any(
        more > 0 and had + more > room and (room > 0 or name != "bandwidth_bps")
        for name, room, had, more in zip(AgentSize._fields, capacity, used, asked, strict=True)
    )


def _networks_over(
    batch: Sequence[Placement],
    shapes: Mapping[str, AgentDeclaration],
    current: Mapping[str, tuple[str, int]],
    limits: Mapping[str, tuple[NetworkLimits, ResourceUse]],
) -> set[str]:
    asked: dict[str, ResourceUse] = defaultdict(ResourceUse)
    for placed in batch:
        if placed.network_id in limits and _is_new(placed, shapes, current):
            asked[placed.network_id] = asked[placed.network_id].plus(shapes[placed.agent_id])
    return {
        name for name, more in asked.items() if check_quota(limits[name][1], more, limits[name][0])
    }


def _is_new(
    placed: Placement,
    shapes: Mapping[str, AgentDeclaration],
    current: Mapping[str, tuple[str, int]],
) -> bool:
    """Whether an agent that had no node gets one."""
    has_none = not current.get(placed.agent_id, NOWHERE)[0]
    return bool(placed.node_id) and placed.agent_id in shapes and has_none
