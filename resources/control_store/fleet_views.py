"""Whole-fleet reads: agents joined with reports, and counts by region for status screens.

Both answer for 10,000 nodes and 100,000 agents: rows come as plain tuples from the driver, JSON is
parsed once per node, and counts are aggregates of the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleet.agents import Placement
from fleet.inventory import Agent
from fleet.reports import AgentDeclaration, RegionCounts, merge_agents, unplaced
from resources.control_store.database import Feature
from resources.control_store.leases import NOBODY
from resources.control_store.nodes import DECLARED_NODES, REPORTED_NODES
from resources.control_store.report_codec import decode_agents
from resources.control_store.schema import agents, leases, node_reports, nodes, placements
from resources.control_store.times import from_us, from_us_or_none

DECLARED = sa.select(
    *(agents.c[name] for name in AgentDeclaration._fields),
    *(placements.c[name] for name in Placement._fields[3:]),
).select_from(
    agents.outerjoin(
        placements,
        sa.and_(placements.c.agent_id == agents.c.agent_id, placements.c.retired == 0),
    )
)
"""Declared agents with their placements: the former's columns, then the latter's from `node_id`."""


def is_live(now: int) -> sa.ColumnElement[bool]:
    """Whether a node's lease runs at `now`, microseconds."""
    return sa.and_(leases.c.holder != NOBODY, leases.c.expires_at > now)


class SqlFleetViews(Feature):
    """The reads of the control store that span nodes and agents."""

    def agents(self, region: str | None = None) -> list[Agent]:
        """Agents joined with placements and node reports, ordered by agent_id."""
        declared = DECLARED.order_by(agents.c.agent_id)
        if region is not None:
            declared = declared.where(_region() == region)
        with self._database.read() as connection:
            now = self._database.dialect.now_us(connection)
            reported = sa.select(
                nodes.c.node_id, node_reports.c.agents_json, sa.func.coalesce(is_live(now), False)
            ).select_from(REPORTED_NODES)
            if region is not None:
                reported = reported.where(_may_host(region))
            reports = driver_rows(connection, reported)
            rows = driver_rows(connection, declared)
        silent = frozenset(node_id for node_id, _, live in reports if not live)
        heard = {node_id: decode_agents(text) for node_id, text, _ in reports}
        return merge_agents(shapes_and_placements(rows), heard, silent)

    def fleet_counts(self) -> list[RegionCounts]:
        """Counts by region, ordered by region."""
        with self._database.read() as connection:
            now = self._database.dialect.now_us(connection)
            by_node = {row[0]: row[1:] for row in driver_rows(connection, _node_counts(now))}
            declared = dict(driver_rows(connection, _count_by(agents.c.region)))
            placed = dict(
                driver_rows(
                    connection,
                    _count_by(placements.c.region).where(placements.c.retired == 0),
                )
            )
            silent = [row[0] for row in driver_rows(connection, _silent_nodes(now))]
            unknown = dict(driver_rows(connection, self._placed_on(silent))) if silent else {}
        nothing = (0, 0, 0, 0, 0, None, None)
        return [
            _region_counts(
                region,
                by_node.get(region, nothing),
                (declared.get(region, 0), placed.get(region, 0), unknown.get(region, 0)),
            )
            for region in sorted(by_node.keys() | declared.keys() | placed.keys())
        ]

    def _placed_on(self, node_ids: list[str]) -> sa.Select[str, int]:
        return _count_by(placements.c.region).where(
            placements.c.retired == 0, self._database.one_of(placements.c.node_id, node_ids)
        )


def _region() -> sa.ColumnElement[str]:
    """Region of an agent: where it is placed, else its home."""
    return sa.func.coalesce(placements.c.region, agents.c.region)


def _may_host(region: str) -> sa.ColumnElement[bool]:
    """Nodes that agents of a region are on: its own, and any that a placement there names."""
    named = sa.select(placements.c.node_id).where(placements.c.region == region)
    return sa.or_(nodes.c.region == region, nodes.c.node_id.in_(named))


def driver_rows(connection: sa.Connection, statement: sa.Executable) -> list[tuple[Any, ...]]:
    """All rows as the driver's own tuples: SQLAlchemy's rows cost as much again at 100,000."""
    cursor = connection.execute(statement).cursor
    assert cursor is not None, "a SELECT has a cursor"
    return list(cursor.fetchall())


def shapes_and_placements(
    rows: list[tuple[Any, ...]],
) -> Iterator[tuple[AgentDeclaration, Placement]]:
    """Rows of `DECLARED` as records; an agent that nobody has placed has `unplaced`'s."""
    moments: dict[int, datetime] = {}  # whole batches share theirs
    for row in rows:
        shape = AgentDeclaration(*row[:10])
        if row[10] is None:
            yield shape, unplaced(shape)
            continue
        at = moments.get(row[16])
        if at is None:
            at = moments[row[16]] = from_us(row[16])
        yield shape, Placement._make((*row[:3], *row[10:16], at))


def _node_counts(now: int) -> sa.Select[Any]:
    live = is_live(now)
    reported = node_reports.c.node_id.is_not(None)
    silent = sa.and_(reported, sa.not_(sa.func.coalesce(live, False)))
    return (
        sa.select(
            nodes.c.region,
            sa.func.count(),
            _sum(sa.and_(reported, live), 1),
            _sum(silent, 1),
            _sum(live, node_reports.c.agents_running),
            _sum(live, node_reports.c.agents_failed),
            sa.func.min(node_reports.c.received_at),
            sa.func.min(sa.case((live, node_reports.c.oldest_heartbeat_at))),
        )
        .select_from(DECLARED_NODES)
        .group_by(nodes.c.region)
    )


def _sum(condition: sa.ColumnElement[bool], value: Any) -> sa.ColumnElement[int]:
    # PostgreSQL sums whole numbers into NUMERIC; the driver would hand out Decimals.
    total = sa.func.sum(sa.case((condition, sa.func.coalesce(value, 0)), else_=0))
    return sa.cast(total, sa.BigInteger)


def _count_by(region: sa.Column[str]) -> sa.Select[str, int]:
    return sa.select(region, sa.func.count()).group_by(region)


def _silent_nodes(now: int) -> sa.Select[str]:
    return (
        sa.select(nodes.c.node_id)
        .select_from(REPORTED_NODES)
        .where(sa.not_(sa.func.coalesce(is_live(now), False)))
    )


def _region_counts(region: str, node: tuple[Any, ...], agent: tuple[int, int, int]) -> RegionCounts:
    count, live, silent, running, failed, oldest_report, oldest_heartbeat = node
    declared, placed, unknown = agent
    return RegionCounts(
        region=region,
        nodes=count,
        nodes_live=live,
        nodes_silent=silent,
        agents_declared=declared,
        agents_placed=placed,
        agents_running=running,
        agents_failed=failed,
        agents_unknown=unknown,
        oldest_report_at=from_us_or_none(oldest_report),
        oldest_heartbeat_at=from_us_or_none(oldest_heartbeat),
    )
