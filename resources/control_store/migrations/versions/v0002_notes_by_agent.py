"""Notes of one agent are found by an index instead of reading those of its whole network."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("notes_by_agent", "notes", ["agent_id", "at"])
