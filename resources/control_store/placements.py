"""Workloads, declared agents and placements in SQL; the epoch that fences an agent lives here.

`place_agents` is one compare-and-swap statement over the whole batch, and one that appends what it
stored to the history of placements; both are committed when it returns.
An agent that is retired keeps its row (`retired` = 1), so that its epoch goes on from there when it
is declared again; otherwise a forgotten process of the first life could write into the second.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from fleet.agents import Placement, RestartMode, RestartPolicy, Workload, revision_of
from fleet.errors import InvalidInputError
from fleet.reports import AgentDeclaration
from resources.control_store import schema
from resources.control_store.database import Database, Feature
from resources.control_store.leadership import hold_leader_term
from resources.control_store.placement_history import record_placements
from resources.control_store.placement_limits import keep_within_limits
from resources.control_store.schema_columns import ID
from resources.control_store.times import from_us, to_us

_REVISIONS_KEPT = 20_000
"""Specifications whose revisions a process remembers: all of a large fleet's."""

_INCOMING = sa.Table(
    "incoming_placements",
    sa.MetaData(),
    *(
        sa.Column(name, ID if kind is str else sa.BigInteger)
        for name, kind in (
            ("agent_id", str),
            ("network_id", str),
            ("workload", str),
            ("node_id", str),
            ("region", str),
            ("epoch", int),
            ("term", int),
            ("desired", str),
            ("reason", str),
            ("updated_at", int),
        )
    ),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)


class SqlPlacements(Feature):
    """The placement part of the control store."""

    def declare_workloads(self, workloads: Sequence[Workload]) -> None:
        """Insert or update workload specifications."""
        rows = {workload.workload: _workload_row(workload) for workload in workloads}
        self._upsert(schema.workloads, list(rows.values()))

    def workloads(self) -> list[Workload]:
        """All workload specifications, ordered by name."""
        with self._database.read() as connection:
            found = connection.execute(
                sa.select(schema.workloads).order_by(schema.workloads.c.workload)
            ).all()
        return [_workload(*row) for row in found]

    def revisions(self, workloads: Collection[str]) -> dict[str, str]:
        """Revision of each of these workloads; one statement."""
        table = schema.workloads
        wanted = self._database.one_of(table.c.workload, workloads)
        with self._database.read() as connection:
            rows = connection.execute(sa.select(table).where(wanted)).all()
        return {row.workload: _revision(*row) for row in rows}

    def declare_agents(self, agents: Sequence[AgentDeclaration]) -> None:
        """Insert or update agents; placements of known agents stay."""
        rows = {declared.agent_id: declared._asdict() for declared in agents}
        self._upsert(schema.agents, [rows[agent_id] for agent_id in sorted(rows)])

    def retire_agents(self, agent_ids: Sequence[str]) -> None:
        """Remove agents; their placements stop counting, but their epochs are remembered."""
        one_of = self._database.one_of
        with self._database.write() as connection:
            connection.execute(
                schema.agents.delete().where(one_of(schema.agents.c.agent_id, agent_ids))
            )
            connection.execute(
                schema.placements.update()
                .where(one_of(schema.placements.c.agent_id, agent_ids))
                .values(retired=1)
            )

    def place_agents(
        self,
        placements: Sequence[Placement],
        *,
        leader_term: int | None = None,
        within_limits: bool = False,
    ) -> list[Placement]:
        """Compare-and-swap placements in one transaction, if need be as the leader's order."""
        if leader_term is not None:
            _validate_terms(placements, leader_term)
        if not placements:
            return []
        with self._database.write() as connection:
            if leader_term is not None:
                hold_leader_term(self._database.dialect, connection, leader_term)
            if within_limits:
                placements = keep_within_limits(self._database, connection, placements)
            return swap_placements(self._database, connection, placements)

    def placements(self, node_id: str | None = None, region: str | None = None) -> list[Placement]:
        """Placements, ordered by agent_id; of one node or region when given."""
        statement = _PLACEMENTS
        if node_id is not None:
            statement = statement.where(schema.placements.c.node_id == node_id)
        if region is not None:
            statement = statement.where(schema.placements.c.region == region)
        with self._database.read() as connection:
            found = connection.execute(statement).all()
        return [Placement._make((*row[:-1], from_us(row[-1]))) for row in found]

    def _upsert(self, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        if rows:
            with self._database.write() as connection:
                connection.execute(self._database.upsert(table), rows)


_PLACEMENTS = (
    sa.select(*(schema.placements.c[name] for name in Placement._fields))
    .where(schema.placements.c.retired == 0)
    .order_by(schema.placements.c.agent_id)
)


def swap_placements(
    database: Database, connection: sa.Connection, placements: Sequence[Placement]
) -> list[Placement]:
    """Compare-and-swap in the caller's transaction; the placements that were stored, in order."""
    if not placements:
        return []
    stored: dict[int, Placement] = {}
    database.dialect.begin_put(connection)
    for wave in _waves(placements):
        epochs = _place(database, connection, [placement for _, placement in wave])
        stored.update(
            (index, Placement._make((*placed[:5], epochs[placed[0]], *placed[6:])))
            for index, placed in wave
            if placed[0] in epochs
        )
    return [stored[index] for index in sorted(stored)]


def _validate_terms(placements: Sequence[Placement], leader_term: int) -> None:
    for placement in placements:
        if placement.term != leader_term:
            allowed = f"{leader_term}, the term under which agent {placement.agent_id} is placed"
            raise InvalidInputError("placement.term", placement.term, allowed)


def _waves(batch: Sequence[Placement]) -> Iterator[list[tuple[int, Placement]]]:
    """Split a batch so that no agent occurs twice in a statement; one wave unless one does."""
    rest = list(enumerate(batch))
    if len({placement[0] for placement in batch}) == len(batch):
        yield rest
        return
    while rest:
        first: dict[str, tuple[int, Placement]] = {}
        rest = [item for item in rest if first.setdefault(item[1].agent_id, item) is not item]
        yield list(first.values())


def _place(database: Database, connection: sa.Connection, batch: list[Placement]) -> dict[str, int]:
    """Swap what matches, record it, and return the new epoch of each agent that did."""
    moments = {at: to_us(at) for at in {placement.updated_at for placement in batch}}
    rows = [(*placement[:-1], moments[placement[-1]]) for placement in batch]
    database.dialect.load_temporary(connection, _INCOMING, rows)
    cursor = connection.execute(_swap(database)).cursor
    assert cursor is not None, "RETURNING has a cursor"
    epochs = dict(cursor.fetchall())  # the driver's own tuples: rows of SQLAlchemy cost more
    refused = [row[0] for row in rows if row[0] not in epochs]
    if refused:
        keys = database.one_of(_INCOMING.c.agent_id, refused)
        connection.execute(_INCOMING.delete().where(keys))
    if epochs:
        # An agent that is declared again goes on above its last epoch, not above the planned one.
        above = any(epochs.get(row[0], row[5] + 1) != row[5] + 1 for row in rows)
        record_placements(database, connection, _INCOMING, epochs_differ=above)
    return epochs


def _swap(database: Database) -> Any:
    """The compare-and-swap of everything in the temporary table."""
    known = schema.placements.alias("known")
    names = [column.name for column in _INCOMING.c]
    placeable = sa.or_(_INCOMING.c.epoch == 0, known.c.agent_id.is_not(None))
    declared = sa.exists().where(schema.agents.c.agent_id == _INCOMING.c.agent_id)
    source = (
        sa.select(
            *(_INCOMING.c[name] + 1 if name == "epoch" else _INCOMING.c[name] for name in names),
            sa.literal(0),
        )
        .select_from(_INCOMING.outerjoin(known, known.c.agent_id == _INCOMING.c.agent_id))
        # A row that is not retired belongs to a declared agent; only the others are looked up.
        .where(sa.or_(known.c.retired == 0, sa.and_(placeable, declared)))
        .order_by(_INCOMING.c.agent_id)  # the same order for everybody: no deadlocks
    )
    statement = database.dialect.insert(schema.placements).from_select([*names, "retired"], source)
    new = statement.excluded
    replaced = {name: new[name] for name in (*names, "retired") if name != "agent_id"}
    return statement.on_conflict_do_update(
        index_elements=["agent_id"],
        set_=replaced | {"epoch": schema.placements.c.epoch + 1},
        where=sa.and_(
            schema.placements.c.term <= new.term,
            sa.case(
                (schema.placements.c.retired == 1, new.epoch == 1),
                else_=schema.placements.c.epoch + 1 == new.epoch,
            ),
        ),
    ).returning(schema.placements.c.agent_id, schema.placements.c.epoch)


def _workload_row(workload: Workload) -> dict[str, str]:
    specification = asdict(workload)
    return {
        "workload": specification.pop("workload"),
        "network_id": specification.pop("network_id"),
        "specification_json": json.dumps(specification, separators=(",", ":"), allow_nan=False),
    }


@lru_cache(maxsize=_REVISIONS_KEPT)
def _revision(workload: str, network_id: str, specification_json: str) -> str:
    return revision_of(_workload(workload, network_id, specification_json))


def _workload(workload: str, network_id: str, specification_json: str) -> Workload:
    fields = json.loads(specification_json)
    restart = fields.pop("restart")
    restart["mode"] = RestartMode(restart["mode"])
    for name in ("command", "gpu_models"):
        fields[name] = tuple(fields.get(name, ()))
    return Workload(
        workload=workload,
        network_id=network_id,
        restart=RestartPolicy(**restart),
        **fields,
    )
