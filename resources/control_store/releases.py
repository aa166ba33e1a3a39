"""Room that stopped agents give back, in SQL, and the node that an agent had last.

`release_ended` judges on one look and swaps on the epochs that it has seen: committed when it
returns. Nothing that happens in between can make it wrong (`fleet.placement.ending`): whoever has
placed an agent anew has raised its epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from fleet.agents import Placement
from fleet.placement.ending import HostStanding, plan_releases
from fleet.placement.parking import NO_NODE
from resources.control_store import schema
from resources.control_store.database import Feature
from resources.control_store.fleet_views import driver_rows, is_live
from resources.control_store.nodes import DECLARED_NODES
from resources.control_store.placements import swap_placements
from resources.control_store.report_codec import decode_agents
from resources.control_store.times import from_us

_PLACEMENTS, _HISTORY = schema.placements, schema.placement_history

_ENDING = (
    sa.select(*(_PLACEMENTS.c[name] for name in Placement._fields))
    .where(
        _PLACEMENTS.c.retired == 0,
        _PLACEMENTS.c.desired == "stopped",
        _PLACEMENTS.c.node_id != NO_NODE,
    )
    .order_by(_PLACEMENTS.c.agent_id)
)


class SqlReleases(Feature):
    """The part of the control store that takes stopped agents off their nodes."""

    def release_ended(self) -> list[Placement]:
        """Give back the room of stopped agents whose processes are gone."""
        released = self._released()
        if not released:
            return []
        with self._database.write() as connection:
            return swap_placements(self._database, connection, released)

    def _released(self) -> list[Placement]:
        """What is to be stored, judged on one look."""
        with self._database.read() as connection:
            rows = driver_rows(connection, _ENDING)
            if not rows:
                return []
            now = self._database.dialect.now_us(connection)
            hosts = sorted({row[3] for row in rows})
            said = driver_rows(
                connection,
                sa.select(
                    schema.nodes.c.node_id,
                    schema.node_reports.c.agents_json,
                    sa.func.coalesce(is_live(now), False),
                )
                .select_from(DECLARED_NODES)
                .where(self._database.one_of(schema.nodes.c.node_id, hosts)),
            )
        ending = [Placement._make((*row[:-1], from_us(row[-1]))) for row in rows]
        standings = {
            name: HostStanding.LIVE if live else HostStanding.SILENT for name, _, live in said
        }
        reports = {name: decode_agents(text) for name, text, _ in said if text is not None}
        return plan_releases(ending, standings, reports, from_us(now))

    def last_nodes(self, agent_ids: Sequence[str]) -> dict[str, str]:
        """The node that each of these agents had last."""
        if not agent_ids:
            return {}
        newest = (
            sa.select(_HISTORY.c.agent_id, sa.func.max(_HISTORY.c.epoch).label("epoch"))
            .where(self._database.one_of(_HISTORY.c.agent_id, agent_ids))
            .where(_HISTORY.c.node_id != NO_NODE)
            .group_by(_HISTORY.c.agent_id)
            .subquery()
        )
        statement = sa.select(_HISTORY.c.agent_id, _HISTORY.c.node_id).join(
            newest,
            sa.and_(newest.c.agent_id == _HISTORY.c.agent_id, newest.c.epoch == _HISTORY.c.epoch),
        )
        with self._database.read() as connection:
            return dict(driver_rows(connection, statement))
