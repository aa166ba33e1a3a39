"""What observers report, and the light reads by which controllers watch, in SQL.

A report is one row per observer, committed when `report_probes` returns, and only under a live
lease of the observer's present boot: what a supervisor saw that was frozen, or has been replaced,
is refused by the store's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleet.errors import LeaseLostError
from fleet.leases import node_lease_name
from fleet.node_beats import NodeBeat, NodeWork, WorkSeen
from fleet.probe_reports import ProbeReport, ProbeReportResult
from resources.control_store import schema
from resources.control_store.database import Feature
from resources.control_store.dialects import Dialect
from resources.control_store.driver_sql import DriverStatement
from resources.control_store.leases import NOBODY
from resources.control_store.probe_codec import decode_probes, encode_probes
from resources.control_store.schema import leases, node_reports, probe_reports
from resources.control_store.times import from_us, to_us

WORK_WINDOW_S = 60.0
"""How far from now an activity may be dated to count as work."""

WORK_ROWS_MAX = 50_000
"""Newest change log entries (and activities) that one look takes: some 50 ms."""


class SqlObservers(Feature):
    """The observers' part of the control store."""

    def report_probes(self, report: ProbeReport) -> None:
        """Replace the observer's report, unless one of a later round of this boot is stored."""
        (result,) = self.report_probes_of_many([report])
        if result.error is not None:
            raise result.error

    def report_probes_of_many(self, reports: Sequence[ProbeReport]) -> list[ProbeReportResult]:
        """`report_probes` for many observers in one transaction."""
        if not reports:
            return []
        encoded = [encode_probes(report.probes) for report in reports]
        dialect = self._database.dialect
        results: list[ProbeReportResult] = []
        rows: dict[str, tuple[Any, ...]] = {}
        with self._database.write() as connection:
            names = sorted({node_lease_name(report.observer_id) for report in reports})
            held = {
                name: (holder, expires_at)
                for name, holder, expires_at in _LEASES.rows(
                    dialect, connection, keys=dialect.keys(names)
                )
            }
            now = dialect.now_us(connection)
            for report, probes in zip(reports, encoded, strict=True):
                error = _refusal(report, held.get(node_lease_name(report.observer_id)), now)
                results.append(ProbeReportResult(report.observer_id, error))
                before = rows.get(report.observer_id)
                if error is None and (before is None or before[2] < report.round):
                    rows[report.observer_id] = (
                        report.observer_id,
                        report.boot_id,
                        report.round,
                        to_us(report.reported_at),
                        now,
                        probes,
                    )
            if rows:
                _STORE.insert_rows(dialect, connection, [rows[name] for name in sorted(rows)])
        return results

    def probe_reports(self, since: datetime | None = None) -> list[ProbeReport]:
        """Reports that were stored at or after `since`, ordered by observer_id."""
        statement = sa.select(probe_reports).order_by(probe_reports.c.observer_id)
        if since is not None:
            statement = statement.where(probe_reports.c.received_at >= to_us(since))
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return [
            ProbeReport(
                row.observer_id,
                row.boot_id,
                row.round,
                from_us(row.reported_at),
                decode_probes(row.probes_json),
                from_us(row.received_at),
            )
            for row in rows
        ]

    def node_beats(self) -> list[NodeBeat]:
        """Report and lease of every declared node, ordered by node_id.

        Three plain scans joined here: SQLite's joins cost 1.5 times as much at 10,000 nodes.
        """
        with self._database.read() as connection:
            declared = _rows(connection, _NODE_IDS)
            reports = {row[0]: row for row in _rows(connection, _REPORTS)}
            held = {row[0]: row[1:] for row in _rows(connection, _LEASE_ROWS)}
        return [
            NodeBeat._make(
                reports.get(one[0], one + _NO_REPORT) + held.get("node/" + one[0], _NO_LEASE)
            )
            for one in declared
        ]

    def work_seen(self, after: int = 0) -> WorkSeen:
        """Newest work per node since the cursor."""
        window = round(WORK_WINDOW_S * 1e6)
        with self._database.read() as connection:
            now = self._database.dialect.now_us(connection)
            newest = connection.execute(_NEWEST_CHANGE).scalar() or 0
            bounds = {"after": max(after, newest - WORK_ROWS_MAX), "up_to": newest}
            states = connection.execute(_STATE_WORK, bounds).all()
            bounds = {"since": now - window, "until": now + window}
            activities = connection.execute(_ACTIVITY_WORK, bounds).all()
        worked: dict[str, int] = {}
        for node_id, at in [*states, *activities]:
            worked[node_id] = max(at, worked.get(node_id, 0))
        nodes = tuple(NodeWork(node_id, worked[node_id]) for node_id in sorted(worked))
        return WorkSeen(max(after, newest), nodes)


def _refusal(report: ProbeReport, held: tuple[str, int] | None, now: int) -> LeaseLostError | None:
    """Why a report may not be stored; None when it may."""
    if held is not None and held[0] == report.boot_id and now < held[1]:
        return None
    if held is None:
        what = "it has never held a lease"
    elif held[0] != report.boot_id:
        what = f"its lease is held by {held[0] or 'nobody (released)'}"
    else:
        what = f"its lease ran out at {from_us(held[1]).isoformat()}"
    return LeaseLostError(
        f"probe report of {report.observer_id}, boot {report.boot_id}, is refused: {what}",
        hint="Renew the node's lease first; what was seen without one counts for nothing.",
    )


def _rows(connection: sa.Connection, statement: sa.Select[Any]) -> list[Any]:
    """The driver's own tuples: SQLAlchemy's rows cost as much again at 10,000."""
    cursor = connection.execute(statement).cursor
    assert cursor is not None, "a SELECT has a cursor"
    return list(cursor.fetchall())


_NO_REPORT = ("", 0, 0)
_NO_LEASE = (NOBODY, 0, 0, 0, 0.0)

_NODE_IDS = sa.select(schema.nodes.c.node_id).order_by(schema.nodes.c.node_id)

_REPORTS = sa.select(
    node_reports.c.node_id,
    node_reports.c.boot_id,
    node_reports.c.received_at,
    sa.func.coalesce(node_reports.c.oldest_heartbeat_at, 0),
)

_LEASE_ROWS = sa.select(
    leases.c.name,
    leases.c.holder,
    leases.c.term,
    leases.c.renewed_at,
    leases.c.expires_at,
    leases.c.ttl_s,
)

# Shared, so that the observer's own heartbeat waits only for this commit.
_LEASES = DriverStatement(
    lambda dialect: (
        sa.select(leases.c.name, leases.c.holder, leases.c.expires_at)
        .where(dialect.one_of(leases.c.name, sa.bindparam("keys")))
        .order_by(leases.c.name)
        .with_for_update(read=True)
    )
)

_STORE_COLUMNS = [column.name for column in probe_reports.c]


def _build_store(dialect: Dialect) -> Any:
    """INSERT that replaces the row of another boot, or of an earlier round of the same."""
    insert = dialect.insert(probe_reports)
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=["observer_id"],
        set_={name: new[name] for name in _STORE_COLUMNS[1:]},
        where=sa.or_(
            probe_reports.c.boot_id != new.boot_id, probe_reports.c["round"] < new["round"]
        ),
    )


_STORE = DriverStatement(_build_store, _STORE_COLUMNS)

_NEWEST_CHANGE = sa.select(sa.func.max(schema.agent_state_changes.c.change_id))

_STATE_WORK = (
    sa.select(
        schema.placements.c.node_id,
        sa.func.max(schema.agent_state_changes.c.changed_at),
    )
    .select_from(
        schema.agent_state_changes.join(
            schema.placements,
            sa.and_(
                schema.placements.c.agent_id == schema.agent_state_changes.c.agent_id,
                schema.placements.c.epoch == schema.agent_state_changes.c.epoch,
            ),
        )
    )
    .where(
        schema.agent_state_changes.c.change_id > sa.bindparam("after"),
        schema.agent_state_changes.c.change_id <= sa.bindparam("up_to"),
        schema.placements.c.retired == 0,
    )
    .group_by(schema.placements.c.node_id)
)

_RECENT = (
    sa.select(schema.activities.c.agent_id, schema.activities.c.at)
    .where(schema.activities.c.at.between(sa.bindparam("since"), sa.bindparam("until")))
    .order_by(schema.activities.c.at.desc())
    .limit(WORK_ROWS_MAX)
    .subquery()
)

_ACTIVITY_WORK = (
    sa.select(schema.placements.c.node_id, sa.func.max(_RECENT.c.at))
    .select_from(
        _RECENT.join(schema.placements, schema.placements.c.agent_id == _RECENT.c.agent_id)
    )
    .where(schema.placements.c.retired == 0)
    .group_by(schema.placements.c.node_id)
)
