"""Notes may carry a vector that their agent computed, with the name of its model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("notes", sa.Column("vector_model", sa.Text, nullable=True))
    op.add_column("notes", sa.Column("vector", sa.LargeBinary, nullable=True))
