"""Rescaling: what controllers remember, what people order, what was decided."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _id(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, ID, primary_key=key, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def upgrade() -> None:
    op.create_table(
        "scaling_standings",
        _id("workload", key=True),
        _id("region", key=True),
        _text("state_json"),
        _number("scales"),
        _text("pending_json"),
        _number("decided_at", null=True),
        _number("term"),
    )
    op.create_table(
        "scaling_orders",
        _id("workload", key=True),
        _id("region", key=True),
        _id("kind", key=True),
        _number("replicas"),
        _text("ordered_by"),
        _text("reason"),
        _number("ordered_at"),
        _number("until", null=True),
    )
    op.create_table(
        "scaling_decisions",
        sa.Column("decision_id", SERIAL, primary_key=True, autoincrement=True),
        _id("workload"),
        _id("region"),
        _text("mode"),
        _number("first_at"),
        _number("last_at"),
        _number("times"),
        _number("current"),
        _number("desired"),
        _number("min_replicas"),
        _number("max_replicas"),
        _number("ready"),
        sa.Column("load", sa.Double, nullable=True),
        _text("limited_by"),
        _text("verdict"),
        _text("reason"),
        _text("detail"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "scaling_decisions_by_workload", "scaling_decisions", ["workload", "region", "decision_id"]
    )
    op.create_index("scaling_decisions_by_time", "scaling_decisions", ["last_at", "decision_id"])
