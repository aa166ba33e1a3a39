"""Who is declared and where it can be reached, for observers: cheap to ask often.

Every supervisor needs the whole roster to know its own targets, but only when it has changed: the
version is one row, raised in the transaction of every declaration and retirement.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from fleet.probe_reports import NodeContact, Roster, RosterMember
from fleet.reports import count_stale
from resources.control_store.database import Database, Feature
from resources.control_store.report_codec import decode_agents
from resources.control_store.schema import node_reports, nodes, placements, store_properties

_VERSION_NAME = "roster_version"

_VERSION = sa.select(store_properties.c.value).where(store_properties.c.name == _VERSION_NAME)


def raise_roster_version(database: Database, connection: sa.Connection) -> None:
    """Let readers of the roster know, once this transaction is committed."""
    insert = database.dialect.insert(store_properties)
    value = sa.cast(sa.cast(store_properties.c.value, sa.BigInteger) + 1, sa.Text)
    connection.execute(
        insert.on_conflict_do_update(index_elements=["name"], set_={"value": value}),
        {"name": _VERSION_NAME, "value": "1"},
    )


class SqlRoster(Feature):
    """The roster part of the control store."""

    def roster_version(self) -> int:
        """Rises with every declaration or retirement of nodes; 0 before the first."""
        with self._database.read() as connection:
            return _version(connection)

    def roster(self) -> Roster:
        """All declared nodes with their failure domains, ordered by node_id."""
        statement = sa.select(nodes.c.node_id, nodes.c.region, nodes.c.zone)
        with self._database.read() as connection:
            version = _version(connection)
            rows = connection.execute(statement.order_by(nodes.c.node_id)).all()
        return Roster(version, tuple(RosterMember._make(row) for row in rows))

    def node_contacts(self, node_ids: Sequence[str]) -> list[NodeContact]:
        """Addresses of those of these nodes that are declared and have reported, by node_id."""
        statement = (
            sa.select(node_reports.c.node_id, node_reports.c.address, node_reports.c.boot_id)
            .where(self._database.one_of(node_reports.c.node_id, node_ids))
            .order_by(node_reports.c.node_id)
        )
        with self._database.read() as connection:
            return [NodeContact._make(row) for row in connection.execute(statement)]

    def stale_copies(self, node_ids: Sequence[str]) -> dict[str, int]:
        """Copies that the last reports of these nodes name and that belong elsewhere by now."""
        one_of = self._database.one_of
        statement = sa.select(node_reports.c.node_id, node_reports.c.agents_json).where(
            one_of(node_reports.c.node_id, node_ids)
        )
        with self._database.read() as connection:
            reported = {
                node_id: decode_agents(text) for node_id, text in connection.execute(statement)
            }
            names = sorted({agent_id for copies in reported.values() for agent_id in copies})
            in_force = sa.select(
                placements.c.agent_id, placements.c.node_id, placements.c.epoch
            ).where(one_of(placements.c.agent_id, names), placements.c.retired == 0)
            placed = {name: (at, epoch) for name, at, epoch in connection.execute(in_force)}
        return {
            node_id: count_stale(node_id, copies.values(), placed)
            for node_id, copies in sorted(reported.items())
        }


def _version(connection: sa.Connection) -> int:
    return int(connection.execute(_VERSION).scalar() or 0)
