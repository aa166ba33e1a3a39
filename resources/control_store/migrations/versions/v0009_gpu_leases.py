"""Leases of GPU memory, the fence of each GPU, and how often work fell back from a GPU."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _id(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, ID, primary_key=key, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table("gpu_fences", _id("gpu_uuid", key=True), _number("fence"))
    op.create_table(
        "gpu_leases",
        _id("gpu_uuid", key=True),
        _id("holder", key=True),
        _id("node_id"),
        _number("memory_bytes"),
        _number("fence"),
        sa.Column("ttl_s", sa.Double, nullable=False),
        _number("renewed_at"),
        _number("expires_at"),
    )
    op.create_table(
        "gpu_fallbacks",
        _id("node_id", key=True),
        _id("reason", key=True),
        _number("fallbacks"),
    )
