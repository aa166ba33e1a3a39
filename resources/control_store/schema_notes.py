"""Tables between agents' notes and their indexes: a part of `schema_columns.METADATA`."""

from __future__ import annotations

import sqlalchemy as sa

from resources.control_store.schema_columns import METADATA, SERIAL, id_column, number_column

note_changes = sa.Table(
    "note_changes",
    METADATA,
    sa.Column("change_id", SERIAL, primary_key=True, autoincrement=True),
    id_column("network_id"),
    id_column("note_id"),
    number_column("changed_at"),
    sa.Index("note_changes_by_network", "network_id", "change_id"),
    sqlite_autoincrement=True,
)
"""What became of notes, in the order of commits; filled by triggers."""

index_standings = sa.Table(
    "index_standings",
    METADATA,
    id_column("network_id", key=True),
    number_column("indexed_change"),
    number_column("term"),
    sa.Column("document_json", sa.Text, nullable=False),
)
"""How far each network's index has come (`fleet.vectors.standing`)."""
