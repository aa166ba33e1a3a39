"""A log of what becomes of notes, in the order of commits; how far each network's index has come.

The log is filled by triggers, so that a person's SQL is in it too. It begins with the notes that
there are, in the order of their ids.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_SQLITE_LOG = """
    INSERT INTO note_changes (network_id, note_id, changed_at)
    VALUES ({row}.network_id, {row}.note_id,
            CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER));
"""
_SQLITE_MOVED = "OLD.network_id <> NEW.network_id OR OLD.note_id <> NEW.note_id"
_SQLITE_TRIGGERS = {
    "notes_added": ("AFTER INSERT ON notes", "NEW"),
    "notes_deleted": ("AFTER DELETE ON notes", "OLD"),
    "notes_changed": ("AFTER UPDATE ON notes", "NEW"),
    "notes_moved": (f"AFTER UPDATE OF network_id, note_id ON notes WHEN {_SQLITE_MOVED}", "OLD"),
}

# The lock is that of `Dialect.begin_put`: numbers are drawn while it is held, and a reader takes it
# alone. Numbers are given out in one statement for all rows of a batch.
_POSTGRES_LOG = """
CREATE FUNCTION stateroom_log_notes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    now_us bigint := floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(91759316329729);
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO note_changes (network_id, note_id, changed_at)
        SELECT network_id, note_id, now_us FROM added ORDER BY note_id;
    END IF;
    IF TG_OP = 'DELETE' THEN
        INSERT INTO note_changes (network_id, note_id, changed_at)
        SELECT network_id, note_id, now_us FROM removed ORDER BY note_id;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO note_changes (network_id, note_id, changed_at)
        SELECT network_id, note_id, now_us
        FROM (SELECT network_id, note_id FROM removed EXCEPT SELECT network_id, note_id FROM added)
            AS moved;
    END IF;
    RETURN NULL;
END $$
"""

_POSTGRES_TRIGGERS = {
    "notes_added": "AFTER INSERT ON notes REFERENCING NEW TABLE AS added",
    "notes_deleted": "AFTER DELETE ON notes REFERENCING OLD TABLE AS removed",
    "notes_changed": "AFTER UPDATE ON notes REFERENCING OLD TABLE AS removed NEW TABLE AS added",
}


def _id(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, ID, primary_key=key, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "note_changes",
        sa.Column("change_id", SERIAL, primary_key=True, autoincrement=True),
        _id("network_id"),
        _id("note_id"),
        _number("changed_at"),
        sqlite_autoincrement=True,
    )
    op.execute(
        "INSERT INTO note_changes (network_id, note_id, changed_at) "
        "SELECT network_id, note_id, at FROM notes ORDER BY note_id"
    )
    op.create_index("note_changes_by_network", "note_changes", ["network_id", "change_id"])
    op.create_table(
        "index_standings",
        _id("network_id", key=True),
        _number("indexed_change"),
        _number("term"),
        sa.Column("document_json", sa.Text, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for name, (when, row) in _SQLITE_TRIGGERS.items():
            op.execute(f"CREATE TRIGGER {name} {when} BEGIN {_SQLITE_LOG.format(row=row)} END")
        return
    op.execute(_POSTGRES_LOG)
    for name, when in _POSTGRES_TRIGGERS.items():
        op.execute(
            f"CREATE TRIGGER {name} {when} FOR EACH STATEMENT "
            "EXECUTE FUNCTION stateroom_log_notes()"
        )
