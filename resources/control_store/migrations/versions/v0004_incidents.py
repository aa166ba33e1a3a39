"""Incidents, what people order the automation, and every epoch that was ever stored.

The history of a store that exists begins with the placements it has: each with its present epoch,
as if it had been stored at the time that the placement names. An index of placements that no query
uses goes: every move of an agent had to write into it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_BEGIN_HISTORY = """
INSERT INTO placement_history
  (agent_id, node_id, region, epoch, term, desired, reason, placed_at, change_id)
SELECT agent_id, node_id, region, epoch, term, desired, reason, updated_at,
  ({newest_change})
FROM placements ORDER BY agent_id
"""

# Numbers that were given out, also those of entries that have been trimmed.
_NEWEST_CHANGE = {
    "sqlite": "SELECT coalesce(max(seq), 0) FROM sqlite_sequence "
    "WHERE name = 'agent_state_changes'",
    "postgresql": "SELECT CASE WHEN is_called THEN last_value ELSE 0 END "
    "FROM agent_state_changes_change_id_seq",
}


def _id(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, ID, primary_key=key, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def upgrade() -> None:
    _create_history()
    _create_incidents()
    _create_orders()


def _create_history() -> None:
    op.create_table(
        "placement_history",
        sa.Column("history_id", SERIAL, primary_key=True, autoincrement=True),
        _id("agent_id"),
        _id("node_id"),
        _id("region"),
        _number("epoch"),
        _number("term"),
        _text("desired"),
        _text("reason"),
        _number("placed_at"),
        _number("change_id"),
        sa.UniqueConstraint("agent_id", "epoch", name="placement_epoch_once"),
        sqlite_autoincrement=True,
    )
    newest_change = _NEWEST_CHANGE[op.get_bind().dialect.name]
    op.execute(_BEGIN_HISTORY.format(newest_change=newest_change))
    op.drop_index("placements_by_network", "placements")


def _create_incidents() -> None:
    op.create_table(
        "incidents",
        _id("incident_id", key=True),
        _id("incident_key"),
        _text("kind"),
        _id("subject"),
        _id("region"),
        _text("severity"),
        _text("state"),
        _text("reason"),
        _number("opened_at"),
        _number("term"),
        _number("revision"),
        _text("waits_for"),
        _text("outcome"),
        _number("ended_at", null=True),
        _number("acknowledged_at", null=True),
        _text("acknowledged_by"),
        _text("note"),
    )
    op.create_index("incidents_by_time", "incidents", ["opened_at"])
    still = sa.text("state != 'ended'")
    op.create_index(
        "incidents_open_once",
        "incidents",
        ["incident_key"],
        unique=True,
        sqlite_where=still,
        postgresql_where=still,
    )


def _create_orders() -> None:
    op.create_table(
        "automation",
        _id("name", key=True),
        _number("paused"),
        _text("changed_by"),
        _text("reason"),
        _number("changed_at"),
        _number("revision"),
    )
    op.create_table(
        "maintenances",
        _id("subject", key=True),
        _number("started_at"),
        _number("until"),
        _text("started_by"),
        _text("reason"),
    )
    op.create_table(
        "approvals",
        _id("incident_id", key=True),
        _id("action", key=True),
        _text("approved_by"),
        _text("reason"),
        _number("approved_at"),
    )
