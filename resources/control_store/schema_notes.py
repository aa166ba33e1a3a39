"""Tables between agents' notes and their indexes: a part of `schema.METADATA`."""

from __future__ import annotations

import sqlalchemy as sa

from resources.control_store.schema import ID, METADATA, SERIAL

note_changes = sa.Table(
    "note_changes",
    METADATA,
    sa.Column("change_id", SERIAL, primary_key=True, autoincrement=True),
    sa.Column("network_id", ID, nullable=False),
    sa.Column("note_id", ID, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Index("note_changes_by_network", "network_id", "change_id"),
    sqlite_autoincrement=True,
)
"""What became of notes, in the order of commits; filled by triggers."""

index_standings = sa.Table(
    "index_standings",
    METADATA,
    sa.Column("network_id", ID, primary_key=True, nullable=False),
    sa.Column("indexed_change", sa.BigInteger, nullable=False),
    sa.Column("term", sa.BigInteger, nullable=False),
    sa.Column("document_json", sa.Text, nullable=False),
)
"""How far each network's index has come (`fleet.vectors.standing`)."""
