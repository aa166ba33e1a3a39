"""The service registry, and what processes report of their circuit breakers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _id(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, ID, primary_key=key, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table("service_revisions", _id("service", key=True), _number("revision"))
    op.create_table(
        "service_endpoints",
        _id("endpoint", key=True),
        _id("service"),
        _id("agent_id"),
        _id("node_id"),
        _id("region"),
        _text("address"),
        _number("port"),
        _number("epoch"),
        _number("capacity"),
        _text("check_path"),
        _number("renewals"),
        _number("connections"),
        _text("health"),
        _number("gray"),
        _text("reason"),
        _number("term"),
        _number("present"),
    )
    op.create_index(
        "service_endpoints_by_service", "service_endpoints", ["service", "present", "agent_id"]
    )
    op.create_index("service_endpoints_by_agent", "service_endpoints", ["agent_id", "present"])
    op.create_table(
        "circuit_breakers",
        _id("name", key=True),
        _id("holder", key=True),
        _text("phase"),
        _number("failures"),
        _text("reason"),
        _number("changed_at"),
        _number("reported_at"),
    )
