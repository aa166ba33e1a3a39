"""The history of placements in SQL: a row for every epoch that was ever stored.

Rows are written by `record_placements` inside the transaction of `place_agents`, so that no epoch
is stored without its row, and no row without its epoch.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleet.placement_history import PlacementRecord
from resources.control_store import schema
from resources.control_store.database import Database, Feature, trim
from resources.control_store.times import from_us, to_us

_COPIED = ("agent_id", "node_id", "region", "epoch", "term", "desired", "reason")

_HISTORY = sa.select(*(schema.placement_history.c[name] for name in PlacementRecord._fields))


def record_placements(
    database: Database, connection: sa.Connection, moved: sa.Table, *, epochs_differ: bool
) -> None:
    """Append what this transaction has just stored to the history.

    The moment and the number of the newest state change are taken here, while the rows are locked:
    every state of these agents under an older epoch is committed, and none can follow.

    Args:
        database: of the connection.
        connection: in the transaction that stored the placements.
        moved: temporary table of exactly the placements that were stored, with the epochs that they
            were planned on.
        epochs_differ: one was stored under another epoch than the next one; epochs are then read
            back, which costs as much again.
    """
    history, placed = schema.placement_history, schema.placements
    moment = (
        sa.literal(database.dialect.now_us(connection)),
        sa.literal(database.dialect.newest_change(connection)),
    )
    epoch: sa.ColumnElement[int] = moved.c.epoch + 1
    origin: sa.FromClause = moved
    if epochs_differ:
        epoch = placed.c.epoch
        origin = moved.join(placed, placed.c.agent_id == moved.c.agent_id)
    columns = [epoch if name == "epoch" else moved.c[name] for name in _COPIED]
    source = sa.select(*columns, *moment).select_from(origin).order_by(moved.c.agent_id)
    names = [*_COPIED, "placed_at", "change_id"]
    connection.execute(history.insert().inline().from_select(names, source))


class SqlPlacementHistory(Feature):
    """The history part of the control store."""

    def placement_history(self, after: int, limit: int) -> list[PlacementRecord]:
        """Rows with history_id > `after`, in order, after every move that was in flight."""
        key = schema.placement_history.c.history_id
        statement = _HISTORY.where(key > after).order_by(key).limit(limit)
        with self._database.settled_read() as connection:
            return _records(connection, statement)

    def agent_placements(self, agent_id: str, limit: int = 100) -> list[PlacementRecord]:
        """Where one agent was placed, newest first."""
        history = schema.placement_history
        statement = (
            _HISTORY.where(history.c.agent_id == agent_id)
            .order_by(history.c.epoch.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return _records(connection, statement)

    def trim_placement_history(self, before: datetime) -> int:
        """Remove rows older than `before`, in short transactions."""
        history = schema.placement_history
        key = history.c.history_id
        return trim(self._database, history.c.placed_at, to_us(before) - 1, ordered_by=key)


def _records(connection: sa.Connection, statement: sa.Select[Any]) -> list[PlacementRecord]:
    cursor = connection.execute(statement).cursor
    assert cursor is not None, "a SELECT has a cursor"
    return [PlacementRecord._make((*row[:8], from_us(row[8]), row[9])) for row in cursor.fetchall()]
