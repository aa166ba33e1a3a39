"""Action journals in SQL: one row per (action_id, step, status), in commit order of an action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from fleet.journal import JournalEntry
from fleet.names import validate_text
from resources.control_store import schema
from resources.control_store.database import Database, Feature
from resources.control_store.times import from_us, to_us

_CHUNK_ROWS = 500
"""Rows per statement: SQLite takes at most 32,766 parameters, and a row has eight."""


def journal_rows(entries: Sequence[JournalEntry]) -> list[dict[str, Any]]:
    """The rows of new steps, the first of each key.

    Raises:
        InvalidInputError: a text or time that no store can hold.
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for entry in entries:
        validate_text("journal.reason", entry.reason)
        validate_text("journal.detail", entry.detail)
        key = (entry.action_id, entry.step, entry.status)
        rows.setdefault(key, entry._asdict() | {"at": to_us(entry.at)})
    return list(rows.values())


def insert_steps(
    database: Database, connection: sa.Connection, rows: Sequence[dict[str, Any]]
) -> set[tuple[Any, ...]]:
    """Append in the caller's transaction; the keys of those that were not there already."""
    fresh: set[tuple[Any, ...]] = set()
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = rows[start : start + _CHUNK_ROWS]
        insert = database.insert_new(schema.journal).values(chunk)
        returned = insert.returning(
            schema.journal.c.action_id, schema.journal.c.step, schema.journal.c.status
        )
        fresh.update(tuple(row) for row in connection.execute(returned))
    return fresh


class SqlJournal(Feature):
    """The journal part of the control store."""

    def append_journal(self, entries: Sequence[JournalEntry]) -> list[bool]:
        """Durably append in one transaction; False where the step was there already."""
        keys = [(entry.action_id, entry.step, entry.status) for entry in entries]
        rows = journal_rows(entries)
        fresh: set[tuple[Any, ...]] = set()
        if rows:
            with self._database.write() as connection:
                fresh = insert_steps(self._database, connection, rows)
        appended = []
        for key in keys:
            appended.append(key in fresh)
            fresh.discard(key)
        return appended

    def journal(self, action_id: str) -> list[JournalEntry]:
        """All steps of an action in commit order."""
        statement = (
            sa.select(*(schema.journal.c[name] for name in JournalEntry._fields))
            .where(schema.journal.c.action_id == action_id)
            .order_by(schema.journal.c.entry_id)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return [
            JournalEntry._make((*row[:5], from_us(row.at), row.duration_s, row.detail))
            for row in rows
        ]
