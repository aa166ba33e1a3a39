"""Nothing: keeps the number of the migration of observers, which replaces this file."""

from __future__ import annotations

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Change nothing."""
