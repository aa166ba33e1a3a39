"""Nodes in SQL: declarations, one report row per node, and counts for status screens.

Heartbeats, one or thousands, are one transaction of two row updates each (report, lease), committed
when `report_nodes` returns; a report under a lost lease stores nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from fleet.errors import InvalidInputError, LeaseLostError, NotFoundError
from fleet.inventory import AgentPhase, Gpu, Node, NodePhase
from fleet.leases import Lease, node_lease_name
from fleet.ports.control_store import ReportResult
from fleet.reports import NodeDeclaration, NodeReport
from resources.control_store import schema
from resources.control_store.database import Feature, upsert
from resources.control_store.driver_sql import DriverStatement
from resources.control_store.leases import NOBODY, LockedLeases
from resources.control_store.report_codec import decode_gpus, encode_agents, encode_gpus
from resources.control_store.roster import raise_roster_version
from resources.control_store.schema import leases
from resources.control_store.times import from_us_or_none, to_us


class SqlNodes(Feature):
    """The node part of the control store."""

    def declare_nodes(self, nodes: Sequence[NodeDeclaration]) -> None:
        """Insert or update declarations; reports and leases of known nodes stay."""
        rows = {declared.node_id: declared._asdict() for declared in nodes}
        if rows:
            with self._database.write() as connection:
                connection.execute(self._database.upsert(schema.nodes), list(rows.values()))
                raise_roster_version(self._database, connection)

    def retire_nodes(self, node_ids: Sequence[str]) -> None:
        """Remove nodes with their reports; their leases stay, so that terms only rise."""
        with self._database.write() as connection:
            for column in (
                schema.nodes.c.node_id,
                schema.node_reports.c.node_id,
                schema.probe_reports.c.observer_id,
            ):
                one_of = self._database.one_of(column, node_ids)
                connection.execute(column.table.delete().where(one_of))
            raise_roster_version(self._database, connection)

    def report_node(self, report: NodeReport, lease: Lease) -> Lease:
        """Store a report and renew the node's lease in one transaction."""
        (result,) = self.report_nodes([(report, lease)])
        if result.lease is None:
            assert result.error is not None, "refused without a reason"
            raise result.error
        return result.lease

    def report_nodes(self, reports: Sequence[tuple[NodeReport, Lease]]) -> list[ReportResult]:
        """Store the reports of many nodes, and renew their leases, in one transaction."""
        for report, lease in reports:
            if lease.name != node_lease_name(report.node_id):
                raise InvalidInputError(
                    "lease.name", lease.name, f"{node_lease_name(report.node_id)!r} for this report"
                )
        if not reports:
            return []
        encoded = [_report_row(report) for report, _ in reports]
        dialect, results = self._database.dialect, []
        rows: dict[str, tuple[Any, ...]] = {}
        with self._database.write() as connection:
            locked = LockedLeases(dialect, connection, (lease.name for _, lease in reports))
            keys = dialect.keys(sorted({report.node_id for report, _ in reports}))
            declared = {node_id for (node_id,) in _DECLARED.rows(dialect, connection, keys=keys)}
            for (report, lease), row in zip(reports, encoded, strict=True):
                result = _judge(report.node_id, lease, locked, declared)
                results.append(result)
                if result.lease is not None:
                    row["received_at"] = to_us(result.lease.renewed_at)
                    rows[report.node_id] = tuple(row[name] for name in _REPORT_COLUMNS)
            locked.store(connection)
            if rows:
                _STORE.insert_rows(dialect, connection, [rows[name] for name in sorted(rows)])
        return results

    def nodes(self, region: str | None = None) -> list[Node]:
        """All nodes with their last report, ordered by node_id."""
        with self._database.read() as connection:
            now = self._database.dialect.now_us(connection)
            statement = _NODES if region is None else _NODES.where(schema.nodes.c.region == region)
            return [_node(row, now) for row in connection.execute(statement)]

    def gpus(self, region: str | None = None) -> list[Gpu]:
        """All GPUs as last reported, ordered by (node_id, device_index)."""
        statement = (
            sa.select(schema.node_reports.c.gpus_json)
            .select_from(_REPORTED)
            .where(schema.node_reports.c.gpus_json != "[]")
        )
        if region is not None:
            statement = statement.where(schema.nodes.c.region == region)
        with self._database.read() as connection:
            texts = connection.execute(statement).scalars().all()
        found = [gpu for text in texts for gpu in decode_gpus(text)]
        return sorted(found, key=lambda gpu: (gpu.node_id, gpu.device_index))


LEASE_OF_NODE = leases.c.name == sa.literal("node/").concat(schema.nodes.c.node_id)
"""Joins a node with its lease; the same name as `fleet.leases.node_lease_name`."""

# Locked against a retirement at the same moment, which would leave a report of no node.
_DECLARED = DriverStatement(
    lambda dialect: (
        sa.select(schema.nodes.c.node_id)
        .where(dialect.one_of(schema.nodes.c.node_id, sa.bindparam("keys")))
        .order_by(schema.nodes.c.node_id)
        .with_for_update(read=True, key_share=True)
    )
)

_REPORT_COLUMNS = [column.name for column in schema.node_reports.c]

_STORE = DriverStatement(lambda dialect: upsert(dialect, schema.node_reports), _REPORT_COLUMNS)

_REPORT_OF_NODE = schema.node_reports.c.node_id == schema.nodes.c.node_id

_REPORTED = schema.nodes.join(schema.node_reports, _REPORT_OF_NODE)

DECLARED_NODES = schema.nodes.outerjoin(schema.node_reports, _REPORT_OF_NODE).outerjoin(
    leases, LEASE_OF_NODE
)
"""Every declared node, with its report and lease where there are any."""

REPORTED_NODES = _REPORTED.outerjoin(leases, LEASE_OF_NODE)
"""Declared nodes that have reported, with their lease."""

_NODES = (
    sa.select(
        schema.nodes,
        schema.node_reports.c.boot_id,
        schema.node_reports.c.pid,
        schema.node_reports.c.address,
        schema.node_reports.c.started_at,
        schema.node_reports.c.received_at,
        schema.node_reports.c.cpu_percent,
        schema.node_reports.c.memory_used_bytes,
        schema.node_reports.c.disk_free_bytes,
        schema.node_reports.c.agents_running,
        schema.node_reports.c.agents_failed,
        leases.c.holder,
        leases.c.expires_at,
    )
    .select_from(DECLARED_NODES)
    .order_by(schema.nodes.c.node_id)
)


def _judge(
    node_id: str, lease: Lease, locked: LockedLeases, declared: Collection[str]
) -> ReportResult:
    """Renew the lease of one report, or say why the report is refused."""
    try:
        locked.check(lease)
    except LeaseLostError as error:
        return ReportResult(node_id, None, error)
    if node_id not in declared:
        undeclared = NotFoundError(
            f"node {node_id} is not declared; its report was not stored",
            hint="Declare the node in stateroom.toml, or stop its supervisor.",
        )
        return ReportResult(node_id, None, undeclared)
    return ReportResult(node_id, locked.renew(lease), None)


def _report_row(report: NodeReport) -> dict[str, Any]:
    running = [agent for agent in report.agents if agent.phase == AgentPhase.RUNNING]
    beats = [agent.heartbeat_at for agent in running if agent.heartbeat_at is not None]
    return {
        "node_id": report.node_id,
        "boot_id": report.boot_id,
        "pid": report.pid,
        "address": report.address,
        "started_at": to_us(report.started_at),
        "reported_at": to_us(report.reported_at),
        "cpu_percent": report.cpu_percent,
        "memory_used_bytes": report.memory_used_bytes,
        "disk_free_bytes": report.disk_free_bytes,
        "agents_running": len(running),
        "agents_failed": sum(agent.phase == AgentPhase.FAILED for agent in report.agents),
        "oldest_heartbeat_at": to_us(min(beats)) if beats else None,
        "agents_json": encode_agents(report.agents),
        "gpus_json": encode_gpus(report.gpus),
    }


def _node(row: sa.Row[Any], now: int) -> Node:
    held = row.holder not in {None, NOBODY}
    return Node(
        node_id=row.node_id,
        region=row.region,
        zone=row.zone,
        phase=_phase(row, now),
        cpu_milli=row.cpu_milli,
        memory_bytes=row.memory_bytes,
        bandwidth_bps=row.bandwidth_bps,
        gpu_count=row.gpu_count,
        gpu_memory_bytes=row.gpu_memory_bytes,
        gpu_model=row.gpu_model,
        address=row.address,
        pid=row.pid,
        boot_id=row.boot_id,
        started_at=from_us_or_none(row.started_at),
        heartbeat_at=from_us_or_none(row.received_at),
        lease_expires_at=from_us_or_none(row.expires_at) if held else None,
        cpu_percent=row.cpu_percent,
        memory_used_bytes=row.memory_used_bytes,
        disk_free_bytes=row.disk_free_bytes,
        agents_running=row.agents_running,
        agents_failed=row.agents_failed,
    )


def _phase(row: sa.Row[Any], now: int) -> NodePhase:
    """What the store can tell: the infrastructure itself is asked by the cluster adapters."""
    if row.boot_id is None:
        return NodePhase.PENDING
    if row.holder == NOBODY:
        return NodePhase.STOPPED
    live = row.expires_at is not None and now < row.expires_at
    return NodePhase.RUNNING if live else NodePhase.UNKNOWN
