"""Placements compared with where agents are at home, and counted: reads for a controller's tick."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from fleet.agents import Placement
from fleet.ports.home_store import PlacementCounts
from resources.control_store.database import Feature
from resources.control_store.schema import agents, placements
from resources.control_store.times import from_us

_OF_DECLARED = placements.join(agents, agents.c.agent_id == placements.c.agent_id)

_RUNNING = sa.and_(placements.c.retired == 0, placements.c.desired == "running")

_BY_NODE = (
    sa.select(placements.c.node_id, sa.func.count()).where(_RUNNING).group_by(placements.c.node_id)
)

_IS_ABROAD = sa.and_(_RUNNING, agents.c.region != placements.c.region)

_ABROAD = (
    sa.select(agents.c.region, sa.func.count())
    .select_from(_OF_DECLARED)
    .where(_IS_ABROAD)
    .group_by(agents.c.region)
)

_PARKED = (
    sa.select(sa.func.count())
    .select_from(placements)
    .where(placements.c.retired == 0, placements.c.desired == "parked")
)

_UNPLACED = (
    sa.select(agents.c.network_id, agents.c.region, sa.func.count())
    .select_from(
        agents.outerjoin(
            placements,
            sa.and_(placements.c.agent_id == agents.c.agent_id, placements.c.retired == 0),
        )
    )
    .where(sa.or_(placements.c.agent_id.is_(None), placements.c.desired == "parked"))
    .group_by(agents.c.network_id, agents.c.region)
)


class SqlHomes(Feature):
    """The part of the control store that knows who is away from home."""

    def placement_counts(self) -> PlacementCounts:
        """Counts over all declared agents, of one moment."""
        with self._database.read() as connection:
            running = {node_id: int(count) for node_id, count in connection.execute(_BY_NODE)}
            abroad = {region: int(count) for region, count in connection.execute(_ABROAD)}
            parked = int(connection.execute(_PARKED).scalar() or 0)
        return PlacementCounts(running, abroad, parked)

    def unplaced_counts(self) -> Mapping[tuple[str, str], int]:
        """See `HomeStore.unplaced_counts`."""
        with self._database.read() as connection:
            found = connection.execute(_UNPLACED).all()
        return {(network, region): int(count) for network, region, count in found}

    def agents_abroad(self, home: str) -> list[Placement]:
        """Running placements of a region's agents in other regions, ordered by agent_id."""
        statement = (
            sa.select(*(placements.c[name] for name in Placement._fields))
            .select_from(_OF_DECLARED)
            .where(_IS_ABROAD, agents.c.region == home)
            .order_by(placements.c.agent_id)
        )
        with self._database.read() as connection:
            found = connection.execute(statement).all()
        return [Placement._make((*row[:-1], from_us(row[-1]))) for row in found]
