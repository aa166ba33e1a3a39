"""Nothing: keeps the number of the migration of incidents, which replaces this file."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Change nothing."""
