"""Full disks, foreign locks, lost servers, concurrent writers: refused cleanly or put in order."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from fleet.agents import StatePut
from fleet.errors import InvalidInputError, StaleEpochError, StoreUnavailableError
from fleet.inventory import AgentPhase
from fleet.ports.control_store import LeaseWish
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from resources.control_store.opening import open_control_store
from resources.control_store.store import SqlControlStore
from tests.fakes.clock import ManualClock
from tests.resources.state_writer import placement
from tests.servers.empty_stores import postgres_url, sqlite_url
from tests.servers.postgres import PostgresServer


def place(store: SqlControlStore, *agent_ids: str) -> None:
    """Declare and place agents at epoch 1."""
    store.declare_agents([AgentDeclaration(name, "net", "w", "eu", 1, 1) for name in agent_ids])
    store.place_agents([placement(name, 0) for name in agent_ids])


def stored_body(store: SqlControlStore, agent_id: str) -> bytes | None:
    """The bytes of a state."""
    state = store.state(agent_id)
    return None if state is None else state.body


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SqlControlStore]:
    """A store on a file, which waits a tenth of a second for locks."""
    url = sqlite_url(tmp_path)
    with closing(open_control_store(url, clock=ManualClock(), busy_timeout_s=0.1)) as store:
        place(store, "a", "b")
        yield store


def assert_batches_are_whole(store: SqlControlStore) -> None:
    """A batch whose last report cannot be written leaves leases and reports as they were."""
    names = ["n1", "n2"]
    store.declare_nodes([NodeDeclaration(name, "eu", "z", 1, 1) for name in names])
    now = ManualClock().now()
    wishes = [LeaseWish(f"node/{name}", "boot", 60.0) for name in names]
    leases = [result.lease for result in store.acquire_leases(wishes) if result.lease]
    good, bad = (
        NodeReport(name, "boot", pid, "h:1", now, now, None, None, None, (), ())
        for name, pid in zip(names, (1, 1 << 63), strict=True)
    )
    with pytest.raises(InvalidInputError):
        store.report_nodes([(good, leases[0]), (bad, leases[1])])
    assert [node.boot_id for node in store.nodes()] == [None, None]
    assert [store.lease(lease.name) for lease in leases] == leases


class TestSqlite:
    """The embedded store."""

    def test_every_connection_is_durable_and_waits_for_locks(
        self, sqlite_store: SqlControlStore
    ) -> None:
        """WAL, FULL (fsync at each commit) and a busy timeout hold on each new connection."""
        database = sqlite_store._database
        for _ in range(2):
            with database.read() as connection:
                values = [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "synchronous", "busy_timeout")
                ]
            assert values == ["wal", 2, 100]
            database.close()

    def test_a_foreign_lock_is_unavailable_and_passes(
        self, sqlite_store: SqlControlStore, tmp_path: Path
    ) -> None:
        """A transient error, nothing stored; readers are not kept waiting."""
        with closing(sqlite3.connect(tmp_path / "control.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="locked"):
                sqlite_store.put_states([StatePut("a", 1, 0, b"x")])
            assert sqlite_store.state("a") is None
            other.execute("ROLLBACK")
        (result,) = sqlite_store.put_states([StatePut("a", 1, 0, b"x")])
        assert result.error is None

    def test_a_full_disk_stores_nothing_and_says_so(self, sqlite_store: SqlControlStore) -> None:
        """SQLite's page limit stands for the disk; once there is room, the same put succeeds."""
        engine = sqlite_store._database._engine
        limit = [50]

        def limited(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute(f"PRAGMA max_page_count={limit[0]}").close()

        sa.event.listen(engine, "connect", limited)
        engine.dispose()
        puts = [StatePut("a", 1, 0, b"small"), StatePut("b", 1, 0, b"x" * (1 << 20))]
        with pytest.raises(StoreUnavailableError, match="disk full") as caught:
            sqlite_store.put_states(puts)
        assert "Free space" in caught.value.hint
        assert (stored_body(sqlite_store, "a"), sqlite_store.state_changes(0, 9)) == (None, [])
        limit[0] = 1_000_000
        engine.dispose()
        assert [result.version for result in sqlite_store.put_states(puts)] == [1, 1]

    def test_a_file_size_limit_is_unavailable_and_leaves_the_store_sound(
        self, sqlite_store: SqlControlStore, tmp_path: Path, start_python: Callable[..., Any]
    ) -> None:
        """The operating system refuses the write in the middle of the log."""
        code = (
            "import resource, sys\n"
            "from fleet.agents import StatePut\n"
            "from fleet.errors import StoreUnavailableError\n"
            "from resources.control_store.opening import open_control_store\n"
            "from tests.fakes.clock import ManualClock\n"
            "store = open_control_store(sys.argv[1], clock=ManualClock())\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))\n"
            "for version in range(100):\n"
            "    try:\n"
            "        store.put_states([StatePut('a', 1, version, b'x' * (1 << 19))])\n"
            "    except StoreUnavailableError as error:\n"
            "        print(version, error)\n"
            "        break\n"
        )
        process: subprocess.Popen[str] = start_python(code, f"sqlite:///{tmp_path}/control.db")
        output, errors = process.communicate(timeout=60)
        assert output, errors
        stored = int(output.split()[0])
        assert stored >= 1
        state = sqlite_store.state("a")
        assert state is not None
        assert state.version == stored == len(sqlite_store.state_changes(0, 1000))

    def test_a_number_too_large_for_a_row_is_refused(self, sqlite_store: SqlControlStore) -> None:
        """64 bits are the limit of both databases."""
        with pytest.raises(InvalidInputError):
            sqlite_store.declare_agents([AgentDeclaration("c", "n", "w", "r", 1 << 63, 1)])

    def test_a_batch_of_reports_that_fails_half_way_stores_nothing(
        self, sqlite_store: SqlControlStore
    ) -> None:
        """The leases are written first, and their renewal is undone with the rest."""
        assert_batches_are_whole(sqlite_store)

    def test_more_callers_than_connections_is_unavailable(
        self, sqlite_store: SqlControlStore
    ) -> None:
        """After the same time limit as a lock, and it passes when one is given back."""
        with ExitStack() as stack:
            for _ in range(15):
                stack.enter_context(sqlite_store._database.read())
            with pytest.raises(StoreUnavailableError, match="connections"):
                sqlite_store.nodes()
        assert sqlite_store.nodes() == []

    def test_a_report_or_time_that_means_nothing_is_refused(
        self, sqlite_store: SqlControlStore
    ) -> None:
        """NaN is no measurement and a naive time is no moment; nothing is stored."""
        now = ManualClock().now()
        sqlite_store.declare_nodes([NodeDeclaration("n", "eu", "z", 1, 1)])
        lease = sqlite_store.acquire_lease("node/n", "boot", 5.0)
        agent = AgentReport("a", 1, AgentPhase.RUNNING, 1, now, now, 0, math.nan, None, "")
        report = NodeReport("n", "boot", 1, "h:1", now, now, None, None, None, (agent,), ())
        with pytest.raises(InvalidInputError, match="finite"):
            sqlite_store.report_node(report, lease)
        naive = report._replace(agents=(), started_at=now.replace(tzinfo=None))
        with pytest.raises(InvalidInputError, match="aware"):
            sqlite_store.report_node(naive, lease)
        assert sqlite_store.nodes()[0].boot_id is None

    def test_threads_and_a_whole_fleet_read_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        """Six writers of one agent each and a reader: every put is stored, versions are dense."""
        url = sqlite_url(tmp_path, "threads.db")
        with (
            closing(open_control_store(url, clock=ManualClock())) as store,
            ThreadPoolExecutor(7) as pool,
        ):
            names = [f"agent-{number}" for number in range(6)]
            place(store, *names)

            def write(name: str) -> None:
                for version in range(25):
                    (result,) = store.put_states([StatePut(name, 1, version, b"x" * 100)])
                    assert result.error is None

            writers = [pool.submit(write, name) for name in names]
            while not all(writer.done() for writer in writers):
                newest = {change.agent_id: change.version for change in store.state_changes(0, 999)}
                assert all(
                    info.version >= newest.get(info.agent_id, 0) for info in store.state_infos()
                )
            for writer in writers:
                writer.result()
            assert [info.version for info in store.state_infos()] == [25] * 6


WRITER = """
import sys
from fleet.agents import StatePut
from resources.control_store.opening import open_control_store
from tests.fakes.clock import ManualClock
store = open_control_store(sys.argv[1], clock=ManualClock())
accepted = 0
for turn in range(60):
    state = store.state("a")
    version = 0 if state is None else state.version
    shared, own = store.put_states([
        StatePut("a", 1, version, f"{sys.argv[2]} {turn}".encode()),
        StatePut(sys.argv[2], 1, turn, b"own"),
    ])
    assert own.error is None, own
    accepted += shared.error is None
print(accepted)
store.close()
"""


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_processes_that_write_one_agent_never_lose_an_update(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, start_python: Callable[..., Any]
) -> None:
    """Compare-and-swap: the version counts exactly the accepted puts of all processes."""
    if kind == "postgres":
        url = postgres_url(request.getfixturevalue("postgres_server"), "shared_writers")
    else:
        url = sqlite_url(tmp_path)
    with closing(open_control_store(url, clock=ManualClock())) as store:
        place(store, "a", "w0", "w1", "w2")
        writers = [start_python(WRITER, url, f"w{number}") for number in range(3)]
        accepted = 0
        for writer in writers:
            output, errors = writer.communicate(timeout=120)
            assert writer.returncode == 0, errors
            accepted += int(output)
        state = store.state("a")
        assert state is not None
        assert state.version == accepted
        assert {i.agent_id: i.version for i in store.state_infos()} == {
            "a": accepted,
            "w0": 60,
            "w1": 60,
            "w2": 60,
        }


@pytest.fixture
def postgres_store(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[SqlControlStore]:
    """A store in a database of its own; two seconds for locks."""
    url = postgres_url(postgres_server, f"faults_{abs(hash(tmp_path))}")
    with closing(open_control_store(url, clock=ManualClock(), busy_timeout_s=2.0)) as store:
        place(store, "a", "b")
        yield store


@pytest.fixture
def side(postgres_store: SqlControlStore) -> Iterator[Any]:
    """A second client of the same database, in a transaction."""
    url = postgres_store._database._engine.url.set(drivername="postgresql")
    with closing(psycopg2.connect(url.render_as_string(hide_password=False))) as connection:
        with connection.cursor() as cursor:
            yield cursor
        connection.rollback()


def wait_for_a_waiter(cursor: Any) -> None:
    """Return once another client of this database waits for a lock."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        if cursor.fetchone()[0]:
            return
        time.sleep(0.005)
    raise AssertionError("nobody waits")


def in_thread(call: Callable[[], Any]) -> Future[Any]:
    """Start a call; its result can be waited for."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


@pytest.mark.postgres
class TestPostgres:
    """The production store."""

    def test_a_put_during_a_move_waits_and_is_then_fenced(
        self, postgres_store: SqlControlStore, side: Any
    ) -> None:
        """The placement's row lock orders the two; no put lands under an epoch that has passed."""
        side.execute("UPDATE placements SET epoch = 2, node_id = 'other' WHERE agent_id = 'a'")
        put = in_thread(lambda: postgres_store.put_states([StatePut("a", 1, 0, b"late")]))
        wait_for_a_waiter(side)
        side.connection.commit()
        (result,) = put.result(10)
        assert isinstance(result.error, StaleEpochError)
        assert postgres_store.state("a") is None

    def test_a_move_during_a_put_waits_for_its_commit(
        self, postgres_store: SqlControlStore, side: Any
    ) -> None:
        """The other order: the put is stored under the old epoch, then the agent moves."""
        side.execute("SELECT 1 FROM placements WHERE agent_id = 'a' FOR NO KEY UPDATE")
        move = in_thread(lambda: postgres_store.place_agents([placement("a", 1)]))
        wait_for_a_waiter(side)
        assert not move.done()
        side.connection.commit()
        assert [placed.epoch for placed in move.result(10)] == [2]

    @pytest.mark.parametrize("reader", ["changes", "cut"])
    def test_the_change_log_waits_for_puts_that_have_drawn_their_number(
        self, postgres_store: SqlControlStore, side: Any, reader: str
    ) -> None:
        """Otherwise a cursor could pass a number whose transaction commits a moment later."""
        database = postgres_store._database
        entered, leave = threading.Event(), threading.Event()

        def slow_put() -> None:
            with database.write() as connection:
                now = database.dialect.begin_put(connection)
                connection.exec_driver_sql(
                    "INSERT INTO agent_state_changes (agent_id, version, epoch, size_bytes, "
                    f"digest, changed_at) VALUES ('b', 1, 1, 0, '', {now})"
                )
                entered.set()
                assert leave.wait(10)

        slow = in_thread(slow_put)
        assert entered.wait(10)
        postgres_store.put_states([StatePut("a", 1, 0, b"quick")])
        read: Future[Any] = in_thread(
            lambda: (
                postgres_store.state_changes(0, 10)
                if reader == "changes"
                else postgres_store.cut_states("net", None)
            )
        )
        wait_for_a_waiter(side)
        assert not read.done()
        leave.set()
        slow.result(10)
        changes = postgres_store.state_changes(0, 10)
        assert [change.agent_id for change in changes] == ["b", "a"]
        if reader == "changes":
            assert read.result(10) == changes
        else:
            assert read.result(10).cursor.change_id == changes[-1].change_id

    def test_a_lock_held_too_long_is_unavailable(
        self, postgres_store: SqlControlStore, side: Any
    ) -> None:
        """After the busy timeout, with nothing stored."""
        side.execute("SELECT 1 FROM placements WHERE agent_id = 'a' FOR UPDATE")
        with pytest.raises(StoreUnavailableError, match="lock timeout"):
            postgres_store.put_states([StatePut("b", 1, 0, b"x"), StatePut("a", 1, 0, b"x")])
        side.connection.rollback()
        assert postgres_store.state_infos() == []

    def test_a_lost_connection_is_replaced(
        self, postgres_store: SqlControlStore, side: Any
    ) -> None:
        """The server dropped every client: the next call connects anew."""
        side.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert side.fetchone()[0] >= 1
        postgres_store.ping()

    def test_a_connection_lost_in_a_transaction_is_unavailable(
        self, postgres_store: SqlControlStore, side: Any
    ) -> None:
        """Nothing of the put is stored, and the store works again at once."""
        side.execute("SELECT 1 FROM placements WHERE agent_id = 'a' FOR UPDATE")
        put = in_thread(lambda: postgres_store.put_states([StatePut("a", 1, 0, b"x")]))
        wait_for_a_waiter(side)
        side.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        with pytest.raises(StoreUnavailableError):
            put.result(10)
        side.connection.rollback()
        assert postgres_store.state("a") is None
        (result,) = postgres_store.put_states([StatePut("a", 1, 0, b"x")])
        assert result.error is None

    def test_commits_are_synchronous_whatever_the_server_says(
        self, postgres_store: SqlControlStore, side: Any
    ) -> None:
        """A default of `off` would acknowledge puts that a power cut loses."""
        side.execute("SELECT current_database()")
        name = side.fetchone()[0]
        side.connection.commit()
        side.connection.autocommit = True
        side.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        postgres_store.close()
        with postgres_store._database.read() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        side.connection.autocommit = False

    def test_a_number_too_large_for_a_row_is_refused(self, postgres_store: SqlControlStore) -> None:
        """64 bits are the limit of both databases."""
        with pytest.raises(InvalidInputError):
            postgres_store.declare_agents([AgentDeclaration("c", "n", "w", "r", 1 << 63, 1)])

    def test_a_batch_of_reports_that_fails_half_way_stores_nothing(
        self, postgres_store: SqlControlStore
    ) -> None:
        """The leases are written first, and their renewal is undone with the rest."""
        assert_batches_are_whole(postgres_store)

    def test_leases_go_by_the_servers_clock(self, postgres_store: SqlControlStore) -> None:
        """The caller's clock stands still in 2026-03 here, and nobody asks it."""
        lease = postgres_store.acquire_lease("leader", "one", 30.0)
        assert lease.renewed_at > ManualClock().now()
