"""Notes in the order of their commits, and how far each network's index has come, in SQL.

`note_changes` is filled by triggers of the schema (migration 10), for a person's SQL as well. Its
numbers are drawn under the lock of the change log, so a reader's cursor never passes a number that
is committed later. `change_index_standing` commits when it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from fleet.errors import LeaseLostError
from fleet.leases import Lease
from fleet.ports.note_store import NoteBacklog, NoteChange
from fleet.vectors.standing import (
    LEASE_PREFIX,
    IndexStanding,
    lease_name,
    read_standing,
    standing_text,
)
from resources.control_store.activities import note_of
from resources.control_store.database import Feature
from resources.control_store.schema import leases, notes, placements
from resources.control_store.schema_notes import index_standings, note_changes
from resources.control_store.times import from_us, from_us_or_none


def _changes() -> sa.Select[Any]:
    present = sa.and_(
        notes.c.note_id == note_changes.c.note_id, notes.c.network_id == note_changes.c.network_id
    )
    return (
        sa.select(
            note_changes.c.change_id,
            note_changes.c.note_id,
            notes.c.agent_id,
            notes.c.network_id,
            notes.c.at,
            notes.c.text,
            notes.c.vector_model,
            notes.c.vector,
            placements.c.region,
        )
        .select_from(
            note_changes.outerjoin(notes, present).outerjoin(
                placements, placements.c.agent_id == notes.c.agent_id
            )
        )
        .where(
            note_changes.c.network_id == sa.bindparam("network_id"),
            note_changes.c.change_id > sa.bindparam("after"),
        )
        .order_by(note_changes.c.change_id)
        .limit(sa.bindparam("row_limit"))
    )


def _backlogs() -> sa.Select[Any]:
    """For each network that ever had a note; each step is one look into an index."""
    log = note_changes.c
    first = sa.select(sa.func.min(log.network_id).label("network_id")).cte(
        "networks", recursive=True
    )
    following = (
        sa.select(sa.func.min(log.network_id))
        .where(log.network_id > first.c.network_id)
        .scalar_subquery()
    )
    networks = first.union_all(sa.select(following).where(first.c.network_id.is_not(None)))
    indexed = sa.func.coalesce(index_standings.c.indexed_change, 0)
    waiting = sa.and_(log.network_id == networks.c.network_id, log.change_id > indexed)
    counted = (
        sa.select(sa.literal_column("1"))
        .where(waiting)
        .limit(sa.bindparam("count_max"))
        .correlate(networks, index_standings)
        .subquery()
    )
    return (
        sa.select(
            networks.c.network_id,
            sa.select(sa.func.count()).select_from(counted).scalar_subquery(),
            sa.select(log.changed_at)
            .where(waiting)
            .order_by(log.change_id)
            .limit(1)
            .correlate(networks, index_standings)
            .scalar_subquery(),
            # Not max(): SQLite would read every entry of the network.
            sa.select(log.change_id)
            .where(log.network_id == networks.c.network_id)
            .order_by(log.change_id.desc())
            .limit(1)
            .correlate(networks)
            .scalar_subquery(),
        )
        .select_from(
            networks.outerjoin(
                index_standings, index_standings.c.network_id == networks.c.network_id
            )
        )
        .where(networks.c.network_id.is_not(None))
        .order_by(networks.c.network_id)
    )


_CHANGES = _changes()
_BACKLOGS = _backlogs()
_STANDINGS = sa.select(index_standings.c.network_id, index_standings.c.document_json)
_BUILDERS = sa.select(leases).where(
    leases.c.name > LEASE_PREFIX, leases.c.name < LEASE_PREFIX[:-1] + chr(ord("/") + 1)
)


class SqlNotesLog(Feature):
    """The part of the control store between notes and indexes."""

    def note_changes(self, network_id: str, after: int, limit: int) -> list[NoteChange]:
        """See `NoteIndexStore.note_changes`."""
        values = {"network_id": network_id, "after": after, "row_limit": limit}
        with self._database.settled_read() as connection:
            rows: Any = connection.execute(_CHANGES, values).all()
        return [
            NoteChange(
                row.change_id, row.note_id, None if row.text is None else note_of(row), row.region
            )
            for row in rows
        ]

    def note_ids(self, network_id: str, after: str, limit: int) -> Sequence[str]:
        """See `NoteIndexStore.note_ids`."""
        statement = (
            sa.select(notes.c.note_id)
            .where(notes.c.network_id == network_id, notes.c.note_id > after)
            .order_by(notes.c.note_id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return connection.execute(statement).scalars().all()

    def note_backlogs(self, count_max: int) -> list[NoteBacklog]:
        """See `NoteIndexStore.note_backlogs`."""
        with self._database.read() as connection:
            rows: Any = connection.execute(_BACKLOGS, {"count_max": count_max}).all()
            documents = {row[0]: row[1] for row in connection.execute(_STANDINGS)}
            builders = {row.name: _lease(row) for row in connection.execute(_BUILDERS)}
        return [
            NoteBacklog(
                network_id,
                _standing(network_id, documents.get(network_id)),
                waiting,
                from_us_or_none(oldest),
                newest,
                builders.get(lease_name(network_id)),
            )
            for network_id, waiting, oldest, newest in rows
        ]

    def index_standing(self, network_id: str) -> IndexStanding:
        """See `NoteIndexStore.index_standing`."""
        with self._database.read() as connection:
            document: Any = connection.execute(_document_of(network_id)).scalar_one_or_none()
        return _standing(network_id, document)

    def change_index_standing(
        self,
        network_id: str,
        change: Callable[[IndexStanding], IndexStanding],
        term: int | None = None,
    ) -> IndexStanding:
        """See `NoteIndexStore.change_index_standing`; the row is made first, and locked."""
        empty = {
            "network_id": network_id,
            "indexed_change": 0,
            "term": 0,
            "document_json": standing_text(IndexStanding(network_id)),
        }
        mine = index_standings.c.network_id == network_id
        with self._database.write() as connection:
            connection.execute(self._database.insert_new(index_standings), empty)
            row = connection.execute(sa.select(index_standings).where(mine).with_for_update()).one()
            if term is not None and term < row.term:
                raise LeaseLostError(
                    f"index of {network_id}: term {term} has ended; a builder of term "
                    f"{row.term} has written since",
                    hint="This builder must stop; the other one goes on.",
                )
            changed = change(_standing(network_id, row.document_json))
            connection.execute(
                index_standings.update()
                .where(mine)
                .values(
                    indexed_change=changed.indexed_change,
                    term=max(row.term, term or 0),
                    document_json=standing_text(changed),
                )
            )
        return changed


def _document_of(network_id: str) -> sa.Select[Any]:
    return sa.select(index_standings.c.document_json).where(
        index_standings.c.network_id == network_id
    )


def _standing(network_id: str, document: str | None) -> IndexStanding:
    return IndexStanding(network_id) if document is None else read_standing(document)


def _lease(row: Any) -> Lease:
    name, holder, term, ttl_s, renewed_at, expires_at = row
    return Lease(name, holder, term, ttl_s, from_us(renewed_at), from_us(expires_at))
