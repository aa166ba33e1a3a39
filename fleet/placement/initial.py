"""Where agents are placed first: dealt evenly over the nodes of their region.

Every agent has a home region; no agent is dealt outside of it. What is placed stays placed, also
where a failover has put it abroad, so that a second start of the same fleet moves nothing. An
agent that fits nowhere is parked with the reason, which an operator reads in its row, instead of
being squeezed onto a full node.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from fleet.agents import Placement
from fleet.reports import AgentDeclaration, NodeDeclaration
from fleet.rooms import Room, Shape, deal, few, shape_of

NO_NODE = ""
"""node_id of a placement that is parked because no node can take the agent."""

_NO_ROOM = re.compile(r"parked: (no node of .* has room|.*has no node|it is not declared any more)")
"""As `_parked_reason` here and `fleet.relocation` say it."""


def plan_initial_placements(
    agents: Sequence[AgentDeclaration],
    nodes: Sequence[NodeDeclaration],
    existing: Iterable[Placement],
    *,
    now: datetime,
    term: int = 0,
) -> list[Placement]:
    """Place the agents that have no node yet, evenly per workload, within each node's capacity.

    An existing placement stays while its node is declared; one that is parked for lack of room is
    tried again, whoever parked it. One that is parked for a crash loop, or because its state cannot
    be had, stays so: room is not what it waits for. A stored term is kept, for terms never fall.
    Agents are dealt by workload to the node with the fewest agents of that workload, then the
    fewest agents, then the first name; O((agents + nodes) log nodes).

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
    rooms = {node.node_id: Room(node) for node in nodes}
    stored = {placement.agent_id: placement for placement in existing}
    waiting: dict[Shape, list[AgentDeclaration]] = defaultdict(list)
    for agent in sorted(agents):
        placed = stored.get(agent.agent_id)
        if placed is not None and placed.desired == "parked" and not lacks_room(placed):
            continue
        room = rooms.get(placed.node_id) if placed is not None else None
        if room is not None and _is_settled(placed):
            room.take(agent)
        else:
            waiting[shape_of(agent)].append(agent)
    planned = []
    for shape in sorted(waiting):
        local = [room for room in rooms.values() if room.node.region == shape.region]
        dealt = deal(shape, waiting[shape], local)
        parked = _parked_reason(shape.region, dealt.shortages)
        rest = [(agent, None, parked) for agent in dealt.left]
        for agent, target, reason in (*dealt.placed, *rest):
            placement = _placement(agent, target, stored.get(agent.agent_id), reason, now, term)
            if placement is not None:
                planned.append(placement)
    return sorted(planned)


def lacks_room(parked: Placement) -> bool:
    """Whether a parked agent waits for room, and for nothing else."""
    return _NO_ROOM.search(parked.reason) is not None


def _is_settled(placed: Placement | None) -> bool:
    return placed is not None and placed.desired != "parked"


def _parked_reason(region: str, shortages: list[str]) -> str:
    if not shortages:
        return f"parked: region {region} has no node"
    return f"parked: no node of {region} has room: {few(shortages)}"


def _placement(
    agent: AgentDeclaration,
    room: Room | None,
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
        term=term if stored is None else max(term, stored.term),
        desired="parked" if room is None else "running",
        reason=reason,
        updated_at=now,
    )
