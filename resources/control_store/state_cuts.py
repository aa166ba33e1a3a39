"""Cuts of agent states in SQL: what a backup reads before it reads any state.

A cut is noted in the store (`store_properties`, `state_cut/{network}`): its token is committed in
the same transaction that reads where the change log stands, and the listing comes after it. So a
store that holds the token holds every change up to the cursor, and a listing misses none of them.
Two triggers of the schema keep `states_moved` for what the change log does not tell.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from fleet.state_cuts import (
    ChangeCursor,
    CutFacts,
    StateListing,
    explain_broken,
    state_columns,
)
from resources.control_store.database import Feature, upsert
from resources.control_store.driver_sql import DriverStatement
from resources.control_store.schema import (
    STATES_MOVED,
    agent_state_changes,
    agent_states,
    placements,
    store_properties,
)


class SqlStateCuts(Feature):
    """The cutting part of the control store."""

    def cut_states(
        self, network_id: str, since: ChangeCursor | None, *, whole: bool = False
    ) -> StateListing:
        """List the states of a network that were touched since an earlier cut, or all of them."""
        cursor, token = self._note_cut(f"state_cut/{network_id}")
        after = since.change_id if since else 0
        dialect = self._database.dialect
        with self._database.read() as connection:
            # In the transaction of the listing: nothing is trimmed between the two.
            has_entry = bool(_ENTRY.rows(dialect, connection, change_id=after))
            broken = explain_broken(since, CutFacts(token, cursor.moves, has_entry))
            if is_whole := whole or bool(broken):
                rows = _ALL.iterate(dialect, connection, network_id=network_id)
            else:
                rows = _TOUCHED.iterate(dialect, connection, network_id=network_id, after=after)
            return StateListing(state_columns(rows), cursor, is_whole, broken)

    def _note_cut(self, name: str) -> tuple[ChangeCursor, str]:
        """Store a new token with reading where the change log stands; the token before it too."""
        properties = store_properties.c
        token = secrets.token_hex(16)
        with self._database.settled_write() as connection:
            newest = connection.execute(sa.select(sa.func.max(agent_state_changes.c.change_id)))
            change_id = newest.scalar() or 0
            wanted = sa.select(properties.name, properties.value).where(
                properties.name.in_([name, STATES_MOVED])
            )
            found = {row.name: row.value for row in connection.execute(wanted)}
            connection.execute(
                upsert(self._database.dialect, store_properties), {"name": name, "value": token}
            )
        moves = found.get(STATES_MOVED, "")
        return ChangeCursor(change_id, token, moves), found.get(name, "")


def _listing(*conditions: sa.ColumnElement[bool]) -> sa.Select[tuple[str, int, int, str, int]]:
    states, placed = agent_states.c, placements.c
    return (
        sa.select(
            states.agent_id, states.version, states.size_bytes, states.digest, states.updated_at
        )
        .select_from(agent_states.join(placements, placed.agent_id == states.agent_id))
        .where(placed.network_id == sa.bindparam("network_id"), *conditions)
        .order_by(states.agent_id)
    )


_ENTRY = DriverStatement(
    lambda _: sa.select(agent_state_changes.c.change_id).where(
        agent_state_changes.c.change_id == sa.bindparam("change_id")
    )
)

_ALL = DriverStatement(lambda _: _listing())

_TOUCHED = DriverStatement(
    lambda _: _listing(
        agent_states.c.agent_id.in_(
            sa.select(agent_state_changes.c.agent_id).where(
                agent_state_changes.c.change_id > sa.bindparam("after")
            )
        )
    )
)
