"""Activities and notes of agents in SQL: append-only, harmless to deliver twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleet.agents import Activity, Note, NoteVector
from fleet.names import validate_text
from resources.control_store import schema
from resources.control_store.database import Feature, trim
from resources.control_store.times import from_us, to_us

NOTE_COLUMNS = (*Note._fields, "vector_model")
"""What `note_of` reads."""


class SqlActivities(Feature):
    """The activity part of the control store; each append is committed when it returns."""

    def append_activities(self, activities: Sequence[Activity]) -> None:
        """Durably append; an id that is there already is ignored."""
        for activity in activities:
            validate_text("activity.kind", activity.kind)
            validate_text("activity.detail", activity.detail)
        rows = [
            activity._asdict() | {"at": to_us(activity.at), "ok": int(activity.ok)}
            for activity in activities
        ]
        if rows:
            with self._database.write() as connection:
                connection.execute(self._database.insert_new(schema.activities), rows)

    def activities(self, agent_id: str | None, limit: int) -> list[Activity]:
        """Newest first; of equal times the higher id first."""
        statement = (
            sa.select(*(schema.activities.c[name] for name in Activity._fields))
            .order_by(schema.activities.c.at.desc(), schema.activities.c.activity_id.desc())
            .limit(limit)
        )
        if agent_id is not None:
            statement = statement.where(schema.activities.c.agent_id == agent_id)
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return [
            Activity._make((*row[:4], from_us(row.at), row.duration_s, bool(row.ok), row.detail))
            for row in rows
        ]

    def trim_activities(self, before: datetime) -> int:
        """Remove activities older than `before`, in short transactions."""
        return trim(self._database, schema.activities.c.at, to_us(before) - 1)

    def append_notes(self, notes: Sequence[Note]) -> None:
        """Durably append; an id that is there already is ignored."""
        for note in notes:
            validate_text("note.text", note.text)
        rows = [_note_row(note) for note in notes]
        if rows:
            with self._database.write() as connection:
                connection.execute(self._database.insert_new(schema.notes), rows)

    def notes(self, network_id: str, after: str, limit: int) -> list[Note]:
        """Notes of a network with note_id > `after`, ordered by note_id."""
        statement = (
            sa.select(*(schema.notes.c[name] for name in NOTE_COLUMNS))
            .where(schema.notes.c.network_id == network_id, schema.notes.c.note_id > after)
            .order_by(schema.notes.c.note_id)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return [note_of(row) for row in rows]


def _note_row(note: Note) -> dict[str, Any]:
    """A note as its columns."""
    row = note._asdict() | {"at": to_us(note.at), "vector_model": None}
    if note.vector is not None:
        row |= {"vector_model": note.vector.model, "vector": note.vector.values}
    return row


def note_of(row: Any) -> Note:
    """The note of a row that was selected by `NOTE_COLUMNS`."""
    vector = None if row.vector is None else NoteVector(row.vector_model, bytes(row.vector))
    return Note(row.note_id, row.agent_id, row.network_id, from_us(row.at), row.text, vector)
