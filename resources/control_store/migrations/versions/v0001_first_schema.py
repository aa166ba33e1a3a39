"""The first schema: nodes, leases, placements, states, activities, notes, journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _id(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, ID, primary_key=key, nullable=False)


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def _number(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def _real(name: str, *, null: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=null)


def _serial(name: str) -> sa.Column[int]:
    return sa.Column(name, SERIAL, primary_key=True, autoincrement=True)


def upgrade() -> None:
    op.create_table("store_properties", _id("name", key=True), _text("value"))
    _create_nodes()
    _create_placements()
    _create_states()
    _create_logs()


def _create_nodes() -> None:
    op.create_table(
        "nodes",
        _id("node_id", key=True),
        _id("region"),
        _id("zone"),
        _number("cpu_milli"),
        _number("memory_bytes"),
        _number("bandwidth_bps"),
        _number("gpu_count"),
        _number("gpu_memory_bytes"),
        _text("gpu_model", null=True),
    )
    op.create_index("nodes_by_region", "nodes", ["region", "node_id"])
    op.create_table(
        "node_reports",
        _id("node_id", key=True),
        _text("boot_id"),
        _number("pid"),
        _text("address"),
        _number("started_at"),
        _number("reported_at"),
        _number("received_at"),
        _real("cpu_percent", null=True),
        _number("memory_used_bytes", null=True),
        _number("disk_free_bytes", null=True),
        _number("agents_running"),
        _number("agents_failed"),
        _number("oldest_heartbeat_at", null=True),
        _text("agents_json"),
        _text("gpus_json"),
    )
    op.create_table(
        "leases",
        _id("name", key=True),
        _id("holder"),
        _number("term"),
        _real("ttl_s"),
        _number("renewed_at"),
        _number("expires_at"),
    )


def _create_placements() -> None:
    op.create_table(
        "workloads", _id("workload", key=True), _id("network_id"), _text("specification_json")
    )
    op.create_table(
        "agents",
        _id("agent_id", key=True),
        _id("network_id"),
        _id("workload"),
        _id("region"),
        _number("cpu_milli"),
        _number("memory_bytes"),
        _number("bandwidth_bps"),
        _number("gpu_milli"),
        _number("gpu_memory_bytes"),
        _number("priority"),
    )
    op.create_index("agents_by_region", "agents", ["region"])
    op.create_index("agents_by_network", "agents", ["network_id"])
    op.create_table(
        "placements",
        _id("agent_id", key=True),
        _id("network_id"),
        _id("workload"),
        _id("node_id"),
        _id("region"),
        _number("epoch"),
        _number("term"),
        _text("desired"),
        _text("reason"),
        _number("updated_at"),
        _number("retired"),
    )
    op.create_index("placements_by_node", "placements", ["node_id", "retired", "region"])
    op.create_index("placements_by_region", "placements", ["region", "retired"])
    op.create_index("placements_by_network", "placements", ["network_id"])


def _create_states() -> None:
    op.create_table(
        "agent_states",
        _id("agent_id", key=True),
        _number("version"),
        _number("epoch"),
        _number("size_bytes"),
        _text("digest"),
        _number("updated_at"),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "agent_state_changes",
        _serial("change_id"),
        _id("agent_id"),
        _number("version"),
        _number("epoch"),
        _number("size_bytes"),
        _text("digest"),
        _number("changed_at"),
        sqlite_autoincrement=True,
    )


def _create_logs() -> None:
    op.create_table(
        "activities",
        _id("activity_id", key=True),
        _id("agent_id"),
        _id("network_id"),
        _text("kind"),
        _number("at"),
        _real("duration_s", null=True),
        _number("ok"),
        _text("detail"),
    )
    op.create_index("activities_by_agent", "activities", ["agent_id", "at"])
    op.create_index("activities_by_time", "activities", ["at"])
    op.create_table(
        "notes",
        _id("note_id", key=True),
        _id("agent_id"),
        _id("network_id"),
        _number("at"),
        _text("text"),
    )
    op.create_index("notes_by_network", "notes", ["network_id", "note_id"])
    op.create_table(
        "journal",
        _serial("entry_id"),
        _id("action_id"),
        _id("step"),
        _id("status"),
        _text("subject"),
        _text("reason"),
        _number("at"),
        _real("duration_s", null=True),
        _text("detail"),
        sa.UniqueConstraint("action_id", "step", "status", name="journal_step_once"),
        sqlite_autoincrement=True,
    )
