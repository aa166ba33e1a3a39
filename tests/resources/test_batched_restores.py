"""A restore of many batches waits for the disk once: the last batch makes all before it durable.

What is looked at is what the database is told: whether it then keeps its word when the power goes
is its part, and the disk's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleet.agents import Placement, StatePut, StateRestore
from fleet.errors import InvalidInputError
from fleet.reports import AgentDeclaration
from resources.control_store.opening import open_control_store
from resources.control_store.store import SqlControlStore
from tests.fakes.clock import ManualClock
from tests.servers.empty_stores import postgres_url, sqlite_url
from tests.servers.postgres import PostgresServer

SYNC = ("PRAGMA synchronous", "SET LOCAL synchronous_commit", "BEGIN IMMEDIATE", "COMMIT")


@contextmanager
def opened(url: str) -> Iterator[tuple[SqlControlStore, list[str]]]:
    """A store with two agents, and what its connections are told of transactions and the disk."""
    store = open_control_store(url, clock=ManualClock())
    told: list[str] = []

    def note(connection: sa.Connection, _: object, text: str, *__: object) -> None:
        del connection
        if text.startswith(SYNC):
            told.append(text)

    try:
        names = ("a", "b")
        store.declare_agents([AgentDeclaration(one, "net", "w", "eu", 1, 1) for one in names])
        now = ManualClock().now()
        store.place_agents(
            [Placement(one, "net", "w", "n", "eu", 0, 1, "running", "", now) for one in names]
        )
        engine = store._database._engine
        sa.event.listen(engine, "before_cursor_execute", note)
        sa.event.listen(engine, "commit", lambda _: told.append("COMMIT"))
        yield store, told
    finally:
        store.close()


def state_of(store: SqlControlStore, agent_id: str) -> bytes:
    """Its live bytes."""
    state = store.state(agent_id)
    assert state is not None
    return state.body


def synchronous(store: SqlControlStore) -> int:
    """How the connection of the pool commits: 2 waits for the disk."""
    with store._database.read() as connection:
        return int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())


def test_sqlite_syncs_the_last_batch_and_every_put_in_between(tmp_path: Path) -> None:
    """A connection goes back to the pool as it was; puts of others wait for the disk as ever."""
    with opened(sqlite_url(tmp_path)) as (store, told):
        for version in range(2):
            store.restore_states([StateRestore("a", version, 1, b"%d" % version)], more=True)
            assert synchronous(store) == 2
        store.put_states([StatePut("b", 1, 0, b"put")])
        store.restore_states([StateRestore("a", 2, 1, b"last")])
        assert [one for one in told if not one.startswith("PRAGMA synchronous\n")] == [
            *["PRAGMA synchronous=NORMAL", "BEGIN IMMEDIATE", "COMMIT", "PRAGMA synchronous"] * 2,
            *["BEGIN IMMEDIATE", "COMMIT"] * 2,
        ]
        assert (state_of(store, "a"), state_of(store, "b")) == (b"last", b"put")
        assert synchronous(store) == 2


def test_a_failed_batch_leaves_no_connection_that_does_not_wait(tmp_path: Path) -> None:
    """Rolled back, and tightened again."""
    with opened(sqlite_url(tmp_path)) as (store, _):
        with pytest.raises(InvalidInputError, match="64-bit whole numbers"):
            store.restore_states([StateRestore("a", 0, 2**70, b"x")], more=True)
        assert synchronous(store) == 2
        assert store.state("a") is None


def test_a_last_batch_that_is_refused_still_makes_the_others_durable(tmp_path: Path) -> None:
    """A commit that changes nothing would wait for nothing."""
    with opened(sqlite_url(tmp_path)) as (store, told):
        store.restore_states([StateRestore("a", 0, 1, b"kept")], more=True)
        told.clear()
        (refused,) = store.restore_states([StateRestore("b", 7, 1, b"late")])
        assert refused.error is not None
        assert told == ["BEGIN IMMEDIATE", "COMMIT"] * 2
        with store._database.read() as connection:
            found = connection.exec_driver_sql(
                "SELECT count(*) FROM store_properties WHERE name = 'restored_at'"
            )
            assert found.scalar_one() == 1


def test_postgresql_relaxes_one_transaction_at_a_time(postgres_server: PostgresServer) -> None:
    """For the batches before the last, and nobody else."""
    with opened(postgres_url(postgres_server, "batched_restores")) as (store, told):
        store.restore_states([StateRestore("a", 0, 1, b"one")], more=True)
        store.put_states([StatePut("b", 1, 0, b"put")])
        store.restore_states([StateRestore("a", 1, 1, b"last")])
        assert told == ["SET LOCAL synchronous_commit TO off", "COMMIT", "COMMIT", "COMMIT"]
        with store._database.read() as connection:
            shown = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
        assert shown == "on"
        assert (state_of(store, "a"), state_of(store, "b")) == (b"last", b"put")
