"""Incidents in SQL: one row each, changed by compare-and-swap; their timelines are in the journal.

An acknowledgement and its journal entry are one transaction, and so is every change of a header.
That at most one incident of a key has not ended is a unique index, so that two controllers which
open at the same moment get the same incident.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleet.errors import StoreUnavailableError
from fleet.incidents import (
    IncidentHeader,
    IncidentKind,
    IncidentOpening,
    IncidentState,
    Severity,
    acknowledge_header,
    decide_incident_update,
    open_header,
    validate_header,
    validate_note,
    validate_person,
)
from fleet.journal import JournalEntry
from resources.control_store import schema
from resources.control_store.database import Database, Feature
from resources.control_store.journal import insert_steps, journal_rows
from resources.control_store.times import from_us, from_us_or_none, to_us, to_us_or_none

_TABLE = schema.incidents
_HEADERS = sa.select(*(_TABLE.c[name] for name in IncidentHeader._fields))
_OPEN = _TABLE.c.state != IncidentState.ENDED.value
_TRIES = 5
"""Each but the last needs an incident to end between two statements of ours."""


class SqlIncidents(Feature):
    """The incident part of the control store."""

    def open_incident(self, opening: IncidentOpening) -> IncidentHeader:
        """Open an incident, or find the one that this opening means."""
        header = open_header(opening)
        insert = self._database.insert_new(_TABLE).values(_row(header))
        mine = _HEADERS.where(_TABLE.c.incident_id == header.incident_id)
        alike = _HEADERS.where(_TABLE.c.incident_key == header.key, _OPEN)
        for _ in range(_TRIES):
            with self._database.write() as connection:
                connection.execute(insert)
                for statement in (mine, alike):
                    found = connection.execute(statement).one_or_none()
                    if found is not None:
                        return _header(found)
        raise StoreUnavailableError(
            f"incident {header.incident_id}: others open and end incidents of {header.key} "
            "all the time",
            hint="Try again.",
        )

    def update_incident(self, header: IncidentHeader) -> IncidentHeader:
        """Store a change by compare-and-swap on the revision."""
        validate_header(header)
        with self._database.write() as connection:
            refused = decide_incident_update(lock_incident(connection, header.incident_id), header)
            if refused is not None:
                raise refused
            return _store(connection, header._replace(revision=header.revision + 1))

    def acknowledge(self, incident_id: str, by: str, note: str = "") -> IncidentHeader:
        """Somebody has it; the first one to say so stays."""
        validate_person("acknowledged_by", by)
        validate_note("note", note)
        with self._database.write() as connection:
            stored = lock_incident(connection, incident_id)
            at = from_us(self._database.dialect.now_us(connection))
            header = acknowledge_header(stored, incident_id, by, note, at)
            if header != stored:
                _store(connection, header)
                said = f"{by}: {note}" if note else by
                step = JournalEntry(incident_id, "acknowledged", "done", header.subject, said, at)
                record(self._database, connection, step)
            return header

    def incident(self, incident_id: str) -> IncidentHeader | None:
        """One incident; None when there is none of this id."""
        with self._database.read() as connection:
            found = connection.execute(
                _HEADERS.where(_TABLE.c.incident_id == incident_id)
            ).one_or_none()
        return None if found is None else _header(found)

    def incidents(
        self,
        *,
        open_only: bool = False,
        ended_since: datetime | None = None,
        limit: int = 100,
    ) -> list[IncidentHeader]:
        """Newest first."""
        statement = _HEADERS.order_by(_TABLE.c.opened_at.desc(), _TABLE.c.incident_id.desc()).limit(
            limit
        )
        if open_only:
            statement = statement.where(_OPEN)
        if ended_since is not None:
            lately = _TABLE.c.ended_at >= to_us(ended_since)
            statement = statement.where(sa.or_(_OPEN, lately))
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return [_header(row) for row in rows]


def lock_incident(connection: sa.Connection, incident_id: str) -> IncidentHeader | None:
    """The header as stored, which nobody else changes until the commit."""
    statement = _HEADERS.where(_TABLE.c.incident_id == incident_id).with_for_update()
    found = connection.execute(statement).one_or_none()
    return None if found is None else _header(found)


def record(database: Database, connection: sa.Connection, step: JournalEntry) -> None:
    """Journal what a person did, in the transaction that does it."""
    insert_steps(database, connection, journal_rows([step]))


def _store(connection: sa.Connection, header: IncidentHeader) -> IncidentHeader:
    row = _row(header)
    connection.execute(
        _TABLE.update().where(_TABLE.c.incident_id == row.pop("incident_id")).values(row)
    )
    return header


def _row(header: IncidentHeader) -> dict[str, Any]:
    return header._asdict() | {
        "incident_key": header.key,
        "kind": header.kind.value,
        "severity": header.severity.value,
        "state": header.state.value,
        "opened_at": to_us(header.opened_at),
        "ended_at": to_us_or_none(header.ended_at),
        "acknowledged_at": to_us_or_none(header.acknowledged_at),
    }


def _header(row: sa.Row[Any]) -> IncidentHeader:
    return IncidentHeader._make(row)._replace(
        kind=IncidentKind(row.kind),
        severity=Severity(row.severity),
        state=IncidentState(row.state),
        opened_at=from_us(row.opened_at),
        ended_at=from_us_or_none(row.ended_at),
        acknowledged_at=from_us_or_none(row.acknowledged_at),
    )
