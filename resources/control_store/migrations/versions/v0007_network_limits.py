"""Quotas and limits of networks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "network_limits",
        sa.Column("network_id", ID, primary_key=True, nullable=False),
        sa.Column("specification_json", sa.Text, nullable=False),
    )
