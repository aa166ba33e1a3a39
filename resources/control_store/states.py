"""Agent states in SQL: fenced compare-and-swap in batches, with a change log.

`put_states` commits once, when it returns: the states, their versions and the change log together.
The placement rows of the batch are locked first, so a concurrent move either comes before the put
(which is then refused) or waits for its commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from sys import intern
from typing import Any

import sqlalchemy as sa

from fleet.agents import (
    STATE_MAX_BYTES,
    AgentState,
    StateChange,
    StateHead,
    StatePut,
    StateRestore,
    decide_put,
    plan_restore,
)
from fleet.errors import CorruptObjectError, TooLargeError
from fleet.inventory import AgentStateInfo
from fleet.ports.control_store import PutResult
from resources.control_store.database import Feature, trim, upsert
from resources.control_store.dialects import Dialect
from resources.control_store.driver_sql import DriverStatement
from resources.control_store.schema import (
    agent_state_changes,
    agent_states,
    placements,
    store_properties,
)
from resources.control_store.times import from_us


class SqlStates(Feature):
    """The agent state part of the control store."""

    def put_states(self, puts: Sequence[StatePut]) -> list[PutResult]:
        """Apply puts in order in one durable transaction; refused ones do not stop the others."""
        digests = [_digest(one.body) for one in puts]
        return self._apply(puts, digests, lambda number, _: puts[number])

    def restore_states(
        self, restores: Sequence[StateRestore], *, more: bool = False
    ) -> list[PutResult]:
        """Put states back from a backup; committed as `put_states`.

        Digests that the restorer has computed are kept, so that each byte is hashed once. With
        `more` it is durable with the next durable commit, of whomever.
        """

        def as_put(number: int, heads: dict[str, StateHead]) -> StatePut:
            agent_id = restores[number].agent_id
            put, raised = plan_restore(restores[number], heads.get(agent_id))
            if raised is not None:
                heads[agent_id] = raised
            return put

        digests = [one.digest or _digest(one.body) for one in restores]
        results = self._apply(restores, digests, as_put, durable=not more)
        if restores and not more and all(one.error for one in results):
            self._note_restore()  # a commit that changes nothing would make no batch before durable
        return results

    def _note_restore(self) -> None:
        with self._database.write() as connection:
            now = str(self._database.dialect.now_us(connection))
            noted = {"name": "restored_at", "value": now}
            connection.execute(self._database.upsert(store_properties), noted)

    def _apply(
        self,
        requests: Sequence[StatePut] | Sequence[StateRestore],
        digests: Sequence[str],
        as_put: Callable[[int, dict[str, StateHead]], StatePut],
        *,
        durable: bool = True,
    ) -> list[PutResult]:
        """Judge each request as the put it becomes, and store what is accepted, in one go.

        Digests are given: hashing is done before the write lock is taken.
        """
        if not requests:
            return []
        dialect = self._database.dialect
        with self._database.write(durable=durable) as connection:
            now = dialect.begin_put(connection)
            at = from_us(now)
            heads = _lock_heads(dialect, connection, {one.agent_id for one in requests})
            puts, results = [], []
            for number in range(len(requests)):
                puts.append(as_put(number, heads))
                results.append(_judge(puts[-1], heads, at))
            accepted = [
                (put, digest, result.version)
                for put, digest, result in zip(puts, digests, results, strict=True)
                if result.error is None
            ]
            if accepted:
                _store(dialect, connection, accepted, now)
        return results

    def state(self, agent_id: str) -> AgentState | None:
        """The newest state, its digest verified; None when there is none."""
        columns = (agent_states.c[name] for name in AgentState._fields)
        statement = sa.select(*columns).where(agent_states.c.agent_id == agent_id)
        with self._database.read() as connection:
            row = connection.execute(statement).one_or_none()
        return None if row is None else _verified(row)

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """The newest states of these agents, digests verified, ordered by agent_id; one query."""
        if not agent_ids:
            return []
        dialect = self._database.dialect
        keys = dialect.keys(sorted(set(agent_ids)))
        with self._database.read() as connection:
            rows = _STATES.rows(dialect, connection, keys=keys)
        return [_verified(row) for row in rows]

    def state_infos(self, region: str | None = None) -> list[AgentStateInfo]:
        """Metadata of all states, ordered by agent_id; never the bytes."""
        states, placed = agent_states.c, placements.c
        statement = (
            sa.select(
                states.agent_id,
                placed.network_id,
                placed.region,
                states.version,
                states.epoch,
                states.size_bytes,
                states.digest,
                states.updated_at,
            )
            .select_from(agent_states.join(placements, placed.agent_id == states.agent_id))
            .order_by(states.agent_id)
        )
        if region is not None:
            statement = statement.where(placed.region == region)
        with self._database.read() as connection:
            # Row by row, and names shared: a listing of 100,000 agents is held once.
            return [
                AgentStateInfo._make(
                    (row[0], intern(row[1]), intern(row[2]), *row[3:-1], from_us(row[-1]))
                )
                for row in connection.execute(statement)
            ]

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """Change log entries with change_id > `after`, in order, at most `limit`.

        No entry appears later below one that was returned: puts in flight are waited for.
        """
        statement = (
            sa.select(agent_state_changes)
            .where(agent_state_changes.c.change_id > after)
            .order_by(agent_state_changes.c.change_id)
            .limit(limit)
        )
        with self._database.settled_read() as connection:
            rows = connection.execute(statement).all()
        return [StateChange._make((*row[:-1], from_us(row[-1]))) for row in rows]

    def trim_state_changes(self, up_to: int) -> int:
        """Remove change log entries with change_id <= `up_to`, in short transactions."""
        return trim(self._database, agent_state_changes.c.change_id, up_to)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _verified(row: Sequence[Any]) -> AgentState:
    """The state of a row whose bytes match their digest."""
    *rest, body, updated_us = row
    state = AgentState._make((*rest, bytes(body), from_us(updated_us)))
    found = _digest(state.body)
    if found != state.digest:
        raise CorruptObjectError(
            f"state of agent {state.agent_id}, version {state.version}: "
            f"SHA-256 is {found}, recorded is {state.digest}",
            hint="Restore this agent's state from a backup, and check the disk.",
        )
    return state


def _lock_heads(
    dialect: Dialect, connection: sa.Connection, agent_ids: Iterable[str]
) -> dict[str, StateHead]:
    """What the store holds of each placed agent, unable to change until the commit."""
    keys = dialect.keys(sorted(agent_ids))
    placed = _PLACED.rows(dialect, connection, keys=keys)
    # A statement of its own: on PostgreSQL it must see what the locks above have waited for.
    versions = dict(_VERSIONS.rows(dialect, connection, keys=keys))
    return {
        agent_id: StateHead(epoch, node_id, versions.get(agent_id, 0))
        for agent_id, epoch, node_id in placed
    }


def _judge(put: StatePut, heads: dict[str, StateHead], at: datetime) -> PutResult:
    """Decide one put, and move the agent's head on when it is accepted."""
    size_bytes = len(put.body)
    if size_bytes > STATE_MAX_BYTES:
        too_large = TooLargeError(
            f"agent {put.agent_id}: state of {size_bytes} bytes, allowed {STATE_MAX_BYTES}",
            hint="Keep large data in files or the lake, and a reference to it in the state.",
        )
        return PutResult(put.agent_id, 0, too_large)
    head = heads.get(put.agent_id)
    refused = decide_put(put, head)
    if refused is not None or head is None:
        return PutResult(put.agent_id, 0, refused)
    heads[put.agent_id] = head._replace(version=head.version + 1)
    return PutResult(put.agent_id, head.version + 1, None, at)


def _store(
    dialect: Dialect,
    connection: sa.Connection,
    accepted: list[tuple[StatePut, str, int]],
    now: int,
) -> None:
    """Write the last state of each agent, and one change log entry per put."""
    changes = [
        (put.agent_id, version, put.epoch, len(put.body), digest, now)
        for put, digest, version in accepted
    ]
    newest = {
        put.agent_id: (*change, put.body)
        for change, (put, _, _) in zip(changes, accepted, strict=True)
    }
    _STORE.insert_rows(dialect, connection, list(newest.values()))
    _APPEND.insert_rows(dialect, connection, changes)


_STATES = DriverStatement(
    lambda dialect: (
        sa.select(*(agent_states.c[name] for name in AgentState._fields))
        .where(dialect.one_of(agent_states.c.agent_id, sa.bindparam("keys")))
        .order_by(agent_states.c.agent_id)
    )
)

_PLACED = DriverStatement(
    lambda dialect: (
        sa.select(placements.c.agent_id, placements.c.epoch, placements.c.node_id)
        .where(
            dialect.one_of(placements.c.agent_id, sa.bindparam("keys")),
            placements.c.retired == sa.literal_column("0"),
        )
        .order_by(placements.c.agent_id)  # the same order for everybody: no deadlocks
        .with_for_update(key_share=True)
    )
)

_VERSIONS = DriverStatement(
    lambda dialect: sa.select(agent_states.c.agent_id, agent_states.c.version).where(
        dialect.one_of(agent_states.c.agent_id, sa.bindparam("keys"))
    )
)

_STORE = DriverStatement(
    lambda dialect: upsert(dialect, agent_states), [column.name for column in agent_states.c]
)

_APPEND = DriverStatement(
    lambda _: agent_state_changes.insert().inline(),
    [column.name for column in agent_state_changes.c][1:],
)
