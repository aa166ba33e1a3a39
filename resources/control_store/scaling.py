"""Rescaling in SQL: standings, the log of decisions, and changes of scale as one transaction each.

Whoever writes holds the rescaling lease: its row is locked until the commit, and judged by the
store's own clock. `apply_scales` is where a change of scale is committed: before it nothing has
changed, after it agents, placements and what the autoscaler remembers have changed together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleet.leases import RESCALING_LEASE
from fleet.names import validate_text
from fleet.ports.scaling_store import ScalingKey
from fleet.reports import merge_agents
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.policy import ScalingMode
from fleet.rescaling.standing import (
    LoggedDecision,
    ScaleChange,
    ScaledAgent,
    ScaleResult,
    ScalingStanding,
    scaled_step,
)
from fleet.rescaling.state_json import (
    PackedStanding,
    pack_standing,
    read_standing,
    standing_of_row,
)
from resources.control_store import schema
from resources.control_store.database import Feature, trim
from resources.control_store.fleet_views import (
    DECLARED,
    driver_rows,
    is_live,
    shapes_and_placements,
)
from resources.control_store.journal import insert_steps, journal_rows
from resources.control_store.leadership import hold_leader_term, look_for_leader_term
from resources.control_store.nodes import REPORTED_NODES
from resources.control_store.placements import swap_placements
from resources.control_store.report_codec import decode_agents
from resources.control_store.standing_rows import lock_standings, select_standings, standing_rows
from resources.control_store.times import from_us, to_us, to_us_or_none

_STANDINGS, _DECISIONS = schema.scaling_standings, schema.scaling_decisions


class SqlScaling(Feature):
    """The rescaling part of the control store."""

    def scaled_agents(self, workloads: Collection[str]) -> list[ScaledAgent]:
        """Agents of these workloads, by agent_id; two statements of one moment."""
        one_of = self._database.one_of
        chosen = DECLARED.where(one_of(schema.agents.c.workload, workloads))
        hosts = sa.select(schema.placements.c.node_id).where(
            one_of(schema.placements.c.workload, workloads)
        )
        with self._database.read() as connection:
            now = self._database.dialect.now_us(connection)
            reported = (
                sa.select(
                    schema.nodes.c.node_id,
                    schema.node_reports.c.agents_json,
                    sa.func.coalesce(is_live(now), False),
                )
                .select_from(REPORTED_NODES)
                .where(schema.nodes.c.node_id.in_(hosts))
            )
            reports = driver_rows(connection, reported)
            rows = driver_rows(connection, chosen.order_by(schema.agents.c.agent_id))
        silent = frozenset(node_id for node_id, _, live in reports if not live)
        heard = {node_id: decode_agents(text) for node_id, text, _ in reports}
        pairs = list(shapes_and_placements(rows))
        return [
            ScaledAgent(agent, None if row[10] is None else placed, shape.region)
            for agent, (shape, placed), row in zip(
                merge_agents(pairs, heard, silent), pairs, rows, strict=True
            )
        ]

    def scaling_standings(self) -> list[ScalingStanding | DamagedStanding]:
        """All standings, by workload and region."""
        return [read_standing(one) for one in self.packed_standings()]

    def packed_standings(self) -> list[PackedStanding | DamagedStanding]:
        """All standings, unread, by workload and region."""
        statement = select_standings(self._database.dialect)
        with self._database.read() as connection:
            return [standing_of_row(row) for row in standing_rows(connection, statement)]

    def keep_scaling(
        self,
        standings: Sequence[ScalingStanding | PackedStanding],
        decisions: Sequence[LoggedDecision],
        *,
        term: int,
    ) -> list[int]:
        """Keep what a look has decided, as the holder of the lease."""
        rows = [_standing_row(one) for one in standings]
        logged = [_decision_row(one) for one in decisions]
        with self._database.write() as connection:
            hold_leader_term(self._database.dialect, connection, term, RESCALING_LEASE)
            if rows:
                connection.execute(self._keep_standing(), rows)
            return self._log(connection, decisions, logged)

    def _keep_standing(self) -> Any:
        """INSERT that replaces a standing, unless a change was made since the look."""
        statement = self._database.dialect.insert(_STANDINGS)
        new = statement.excluded
        kept = ("state_json", "pending_json", "decided_at", "term")
        return statement.on_conflict_do_update(
            index_elements=["workload", "region"],
            set_={name: new[name] for name in kept},
            where=_STANDINGS.c.scales == new.scales,
        )

    def _log(
        self,
        connection: sa.Connection,
        decisions: Sequence[LoggedDecision],
        rows: Sequence[dict[str, Any]],
    ) -> list[int]:
        folded = [row for row in rows if row["decision_id"]]
        if folded:
            connection.execute(self._database.upsert(_DECISIONS), folded)
        fresh = [
            {name: value for name, value in row.items() if name != "decision_id"}
            for row in rows
            if not row["decision_id"]
        ]
        if not fresh:
            return [one.decision_id for one in decisions]
        inserted = connection.execute(
            sa.insert(_DECISIONS).returning(_DECISIONS.c.decision_id, sort_by_parameter_order=True),
            fresh,
        )
        given = iter(inserted.scalars().all())
        return [one.decision_id or next(given) for one in decisions]

    def apply_scales(self, changes: Sequence[ScaleChange], *, term: int) -> list[ScaleResult]:
        """Make changes of scale in one transaction, as the holder of the lease."""
        if not changes:
            return []
        with self._database.write() as connection:
            now = hold_leader_term(self._database.dialect, connection, term, RESCALING_LEASE)
            stored = self._scales(connection, [(one.workload, one.region) for one in changes])
            due: list[ScaleChange] = []
            for one in changes:
                if stored.get((one.workload, one.region), 0) == one.scales:
                    stored[one.workload, one.region] = one.scales + 1
                    due.append(one)
            declared = {agent.agent_id: agent for one in due for agent in one.declared}
            if declared:
                rows = [declared[name]._asdict() for name in sorted(declared)]
                connection.execute(self._database.insert_new(schema.agents), rows)
            if due:
                made = [_made_row(one, now, term) for one in due]
                connection.execute(self._database.upsert(_STANDINGS), made)
                steps = [scaled_step(one, from_us(now)) for one in due]
                insert_steps(self._database, connection, journal_rows(steps))
            placed = swap_placements(
                self._database, connection, [item for one in due for item in one.placements]
            )
        by_agent = {one.agent_id: one for one in placed}
        made_ids = {id(one) for one in due}
        return [
            ScaleResult(
                one.workload,
                one.region,
                id(one) in made_ids,
                tuple(
                    by_agent[item.agent_id]
                    for item in (one.placements if id(one) in made_ids else ())
                    if item.agent_id in by_agent
                ),
            )
            for one in changes
        ]

    def _scales(
        self, connection: sa.Connection, keys: Iterable[ScalingKey]
    ) -> dict[ScalingKey, int | None]:
        """Changes made so far, by key, None where that is damaged; their rows are locked."""
        rows = lock_standings(self._database, connection, keys)
        found = [read_standing(standing_of_row(row)) for row in rows]
        return {one.key: one.scales if isinstance(one, ScalingStanding) else None for one in found}

    def demand_scaling_term(self, term: int) -> None:
        """Return when `term` holds the rescaling lease at this moment."""
        with self._database.read() as connection:
            look_for_leader_term(self._database.dialect, connection, term, RESCALING_LEASE)

    def scaling_decisions(
        self, workload: str | None = None, region: str | None = None, limit: int = 100
    ) -> list[LoggedDecision]:
        """The log, newest first."""
        statement = sa.select(*_LOGGED).order_by(_DECISIONS.c.decision_id.desc()).limit(limit)
        if workload is not None:
            statement = statement.where(_DECISIONS.c.workload == workload)
        if region is not None:
            statement = statement.where(_DECISIONS.c.region == region)
        with self._database.read() as connection:
            return [_logged(row) for row in connection.execute(statement).all()]

    def scaling_decisions_since(
        self, last_at: datetime, after_id: int, limit: int
    ) -> list[LoggedDecision]:
        """Rows above (last look, id), in that order."""
        at = to_us(last_at)
        statement = (
            sa.select(*_LOGGED)
            .where(
                sa.or_(
                    _DECISIONS.c.last_at > at,
                    sa.and_(_DECISIONS.c.last_at == at, _DECISIONS.c.decision_id > after_id),
                )
            )
            .order_by(_DECISIONS.c.last_at, _DECISIONS.c.decision_id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_logged(row) for row in connection.execute(statement).all()]

    def trim_scaling_decisions(self, before: datetime) -> int:
        """Remove rows whose last look was before."""
        return trim(self._database, _DECISIONS.c.last_at, to_us(before) - 1)


_LOGGED = tuple(_DECISIONS.c[name] for name in LoggedDecision._fields)


def _standing_row(one: ScalingStanding | PackedStanding) -> dict[str, Any]:
    packed = one if isinstance(one, PackedStanding) else pack_standing(one)
    validate_text("state", packed.state_json)
    validate_text("pending", packed.pending_json)
    return packed._asdict() | {"decided_at": to_us_or_none(packed.decided_at)}


def _made_row(one: ScaleChange, now_us: int, term: int) -> dict[str, Any]:
    """The standing once the change is made."""
    made = ScalingStanding(
        one.workload, one.region, one.state, one.scales + 1, None, from_us(now_us), term
    )
    return _standing_row(made)


def _decision_row(one: LoggedDecision) -> dict[str, Any]:
    validate_text("reason", one.reason)
    validate_text("detail", one.detail)
    return one._asdict() | {
        "mode": one.mode.value,
        "first_at": to_us(one.first_at),
        "last_at": to_us(one.last_at),
    }


def _logged(row: sa.Row[Any]) -> LoggedDecision:
    found = LoggedDecision._make(row)
    return found._replace(
        mode=ScalingMode(found.mode),
        first_at=from_us(row.first_at),
        last_at=from_us(row.last_at),
    )
