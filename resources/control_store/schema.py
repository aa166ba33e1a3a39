"""Tables of the control store, as this version of Stateroom knows them; more in `schema_*.py`.

`migrations/` brings a database to exactly this shape; a test compares the two. Invariants, locking
and what is committed when: `docs/formats/control_store.md`.
"""

from __future__ import annotations

import sqlalchemy as sa

from resources.control_store.schema_columns import METADATA, SERIAL
from resources.control_store.schema_columns import id_column as _id
from resources.control_store.schema_columns import number_column as _number
from resources.control_store.schema_columns import real_column as _real
from resources.control_store.schema_columns import text_column as _text

SCHEMA_VERSION = 11
"""Number of the newest migration; raise it with each file added to `migrations/versions`."""

STATES_MOVED = "states_moved"
"""Property that triggers change with all that alters a network's states beside the change log."""

store_properties = sa.Table(
    "store_properties",
    METADATA,
    _id("name", key=True),
    _text("value"),
)

nodes = sa.Table(
    "nodes",
    METADATA,
    _id("node_id", key=True),
    _id("region"),
    _id("zone"),
    _number("cpu_milli"),
    _number("memory_bytes"),
    _number("bandwidth_bps"),
    _number("gpu_count"),
    _number("gpu_memory_bytes"),
    _text("gpu_model", null=True),
    sa.Index("nodes_by_region", "region", "node_id"),
)

node_reports = sa.Table(
    "node_reports",
    METADATA,
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

probe_reports = sa.Table(
    "probe_reports",
    METADATA,
    _id("observer_id", key=True),
    _text("boot_id"),
    _number("round"),
    _number("reported_at"),
    _number("received_at"),
    _text("probes_json"),
)

leases = sa.Table(
    "leases",
    METADATA,
    _id("name", key=True),
    _id("holder"),
    _number("term"),
    _real("ttl_s"),
    _number("renewed_at"),
    _number("expires_at"),
)

workloads = sa.Table(
    "workloads",
    METADATA,
    _id("workload", key=True),
    _id("network_id"),
    _text("specification_json"),
)

network_limits = sa.Table(
    "network_limits",
    METADATA,
    _id("network_id", key=True),
    _text("specification_json"),
)

agents = sa.Table(
    "agents",
    METADATA,
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
    sa.Index("agents_by_region", "region"),
    sa.Index("agents_by_network", "network_id"),
)

placements = sa.Table(
    "placements",
    METADATA,
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
    # 1: the agent is not declared any more. The row stays, so that its epoch never falls back and
    # a forgotten process cannot write into an agent of the same name declared later.
    _number("retired"),
    sa.Index("placements_by_node", "node_id", "retired", "region"),
    sa.Index("placements_by_region", "region", "retired"),
)

# One row for every epoch that was ever stored, written with the placement.
placement_history = sa.Table(
    "placement_history",
    METADATA,
    sa.Column("history_id", SERIAL, primary_key=True, autoincrement=True),
    _id("agent_id"),
    _id("node_id"),
    _id("region"),
    _number("epoch"),
    _number("term"),
    _text("desired"),
    _text("reason"),
    _number("placed_at"),
    # Number of the newest state change at that moment: older epochs have stored none above it.
    _number("change_id"),
    sa.UniqueConstraint("agent_id", "epoch", name="placement_epoch_once"),
    sqlite_autoincrement=True,
)

agent_states = sa.Table(
    "agent_states",
    METADATA,
    _id("agent_id", key=True),
    _number("version"),
    _number("epoch"),
    _number("size_bytes"),
    _text("digest"),
    _number("updated_at"),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

agent_state_changes = sa.Table(
    "agent_state_changes",
    METADATA,
    sa.Column("change_id", SERIAL, primary_key=True, autoincrement=True),
    _id("agent_id"),
    _number("version"),
    _number("epoch"),
    _number("size_bytes"),
    _text("digest"),
    _number("changed_at"),
    sqlite_autoincrement=True,
)

activities = sa.Table(
    "activities",
    METADATA,
    _id("activity_id", key=True),
    _id("agent_id"),
    _id("network_id"),
    _text("kind"),
    _number("at"),
    _real("duration_s", null=True),
    _number("ok"),
    _text("detail"),
    sa.Index("activities_by_agent", "agent_id", "at"),
    sa.Index("activities_by_time", "at"),
)

notes = sa.Table(
    "notes",
    METADATA,
    _id("note_id", key=True),
    _id("agent_id"),
    _id("network_id"),
    _number("at"),
    _text("text"),
    _text("vector_model", null=True),
    sa.Column("vector", sa.LargeBinary, nullable=True),
    sa.Index("notes_by_network", "network_id", "note_id"),
    sa.Index("notes_by_agent", "agent_id", "at"),
)

journal = sa.Table(
    "journal",
    METADATA,
    sa.Column("entry_id", SERIAL, primary_key=True, autoincrement=True),
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

incidents = sa.Table(
    "incidents",
    METADATA,
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
    sa.Index("incidents_by_time", "opened_at"),
)
sa.Index(
    "incidents_open_once",
    incidents.c.incident_key,
    unique=True,
    sqlite_where=incidents.c.state != "ended",
    postgresql_where=incidents.c.state != "ended",
)

automation = sa.Table(
    "automation",
    METADATA,
    _id("name", key=True),
    _number("paused"),
    _text("changed_by"),
    _text("reason"),
    _number("changed_at"),
    _number("revision"),
)

maintenances = sa.Table(
    "maintenances",
    METADATA,
    _id("subject", key=True),
    _number("started_at"),
    _number("until"),
    _text("started_by"),
    _text("reason"),
)

approvals = sa.Table(
    "approvals",
    METADATA,
    _id("incident_id", key=True),
    _id("action", key=True),
    _text("approved_by"),
    _text("reason"),
    _number("approved_at"),
)

service_revisions = sa.Table(
    "service_revisions",
    METADATA,
    _id("service", key=True),
    _number("revision"),
)

service_endpoints = sa.Table(
    "service_endpoints",
    METADATA,
    _id("endpoint", key=True),  # service/agent_id
    _id("service"),
    _id("agent_id"),
    _id("node_id"),
    _id("region"),
    _text("address"),
    _number("port"),
    # 0: the row was made to be locked, and nobody has registered yet.
    _number("epoch"),
    _number("capacity"),
    _text("check_path"),
    _number("renewals"),
    _number("connections"),
    _text("health"),
    _number("gray"),
    _text("reason"),
    _number("term"),
    # 0: removed; the row keeps the epoch below which nobody may register.
    _number("present"),
    sa.Index("service_endpoints_by_service", "service", "present", "agent_id"),
    sa.Index("service_endpoints_by_agent", "agent_id", "present"),
)

circuit_breakers = sa.Table(
    "circuit_breakers",
    METADATA,
    _id("name", key=True),
    _id("holder", key=True),
    _text("phase"),
    _number("failures"),
    _text("reason"),
    _number("changed_at"),
    _number("reported_at"),
)

scaling_standings = sa.Table(
    "scaling_standings",
    METADATA,
    _id("workload", key=True),
    _id("region", key=True),
    _text("state_json"),
    # Changes that were made: who plans says how many there were when he looked.
    _number("scales"),
    _text("pending_json"),
    _number("decided_at", null=True),
    _number("term"),
)

scaling_orders = sa.Table(
    "scaling_orders",
    METADATA,
    _id("workload", key=True),
    _id("region", key=True),
    _id("kind", key=True),
    _number("replicas"),
    _text("ordered_by"),
    _text("reason"),
    _number("ordered_at"),
    _number("until", null=True),
)

scaling_decisions = sa.Table(
    "scaling_decisions",
    METADATA,
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
    _real("load", null=True),
    _text("limited_by"),
    _text("verdict"),
    _text("reason"),
    _text("detail"),
    sa.Index("scaling_decisions_by_workload", "workload", "region", "decision_id"),
    sa.Index("scaling_decisions_by_time", "last_at", "decision_id"),
    sqlite_autoincrement=True,
)
