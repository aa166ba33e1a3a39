"""What has become impossible since it was planned is left out of a batch, inside its transaction.

The rows of the nodes and of the networks' limits are locked until the commit, in this order and by
name, so that of two placers the second counts what the first has taken. Five queries, whatever the
size of the batch; they add up the agents on its nodes, and those of its networks that have a quota:
of a fleet of 100,000 in 50 networks 5,000 take 0.6 s of CPU more than without, ten of one network
10 ms.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from fleet.agents import Placement
from fleet.placement.quotas import ResourceQuota, ResourceUse
from fleet.placement.requests import AgentSize
from fleet.placement.validation import select_possible
from fleet.reports import AgentDeclaration, NodeDeclaration
from resources.control_store.database import Database
from resources.control_store.quotas import lock_limits, uses_of
from resources.control_store.schema import agents, nodes, placements

_SHAPES = sa.select(
    *(agents.c[name] for name in AgentDeclaration._fields),
    placements.c.node_id,
    placements.c.epoch,
).select_from(
    agents.outerjoin(
        placements,
        sa.and_(placements.c.agent_id == agents.c.agent_id, placements.c.retired == 0),
    )
)

_NODES = sa.select(*(nodes.c[name] for name in NodeDeclaration._fields)).order_by(nodes.c.node_id)

_USES = (
    sa.select(placements.c.node_id, *(sa.func.sum(agents.c[name]) for name in AgentSize._fields))
    .select_from(placements.join(agents, agents.c.agent_id == placements.c.agent_id))
    .where(placements.c.retired == 0)
    .group_by(placements.c.node_id)
)


def keep_within_limits(
    database: Database, connection: sa.Connection, batch: Sequence[Placement]
) -> list[Placement]:
    """The placements of a batch that nodes and quotas still have room for, in the same order."""
    named = sorted({placed.node_id for placed in batch if placed.node_id})
    locked = _NODES.where(database.one_of(nodes.c.node_id, named)).with_for_update()
    declared = [NodeDeclaration._make(row) for row in connection.execute(locked)]
    limits = lock_limits(database, connection, {placed.network_id for placed in batch})
    bounded = sorted(name for name, one in limits.items() if one.quota != ResourceQuota())
    in_use = uses_of(database, connection, bounded)
    ids = sorted({placed.agent_id for placed in batch})
    shapes: dict[str, AgentDeclaration] = {}
    current: dict[str, tuple[str, int]] = {}
    for row in connection.execute(_SHAPES.where(database.one_of(agents.c.agent_id, ids))):
        shapes[row[0]] = AgentDeclaration._make(row[:-2])
        if row[-1] is not None:
            current[row[0]] = (row[-2], row[-1])
    there = _USES.where(database.one_of(placements.c.node_id, named))
    uses = {
        row[0]: AgentSize(*(int(amount) for amount in row[1:])) for row in connection.execute(there)
    }
    nothing = AgentSize(0, 0)
    return select_possible(
        batch,
        shapes,
        current,
        {node.node_id: (node, uses.get(node.node_id, nothing)) for node in declared},
        {name: (one, in_use.get(name, ResourceUse())) for name, one in limits.items()},
    )
