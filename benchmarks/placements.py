"""How long it takes to move many agents in the control store, history included.

Usage: python benchmarks/placements.py [--quick] [--folder DIR]

A fleet of 100,000 agents on 10,000 nodes; a quarter of them is moved in one `place_agents`: a
compare-and-swap of every epoch and term, and a row of history for each, in one durable transaction.
The bare driver does the same work on tables of the same columns and indexes with hand-written SQL
(COPY on PostgreSQL). Rounds alternate; figures are medians of whole calls. SQLite, then PostgreSQL
with fsync on where a server can be started. Reading the history back and judging it is timed, too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psycopg2

from fleet.agents import Placement
from fleet.placement_history import find_double_placements, find_missing_epochs, find_stale_epochs
from fleet.reports import AgentDeclaration
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.control_store.store import SqlControlStore
from tests.servers.postgres import postgres_bin_dir, running_postgres

NOW = datetime(2026, 3, 1, tzinfo=UTC)
REGIONS = 6
_TYPES = (
    "agent_id TEXT PRIMARY KEY, network_id TEXT, workload TEXT, node_id TEXT, region TEXT, "
    "epoch BIGINT, term BIGINT, desired TEXT, reason TEXT, updated_at BIGINT, retired BIGINT"
)
_HISTORY = (
    "agent_id TEXT, node_id TEXT, region TEXT, epoch BIGINT, term BIGINT, desired TEXT, "
    "reason TEXT, placed_at BIGINT, change_id BIGINT, UNIQUE (agent_id, epoch)"
)
_TABLES = (
    f"CREATE TABLE raw_placements ({_TYPES})",
    "CREATE INDEX raw_by_node ON raw_placements (node_id, retired, region)",
    "CREATE INDEX raw_by_region ON raw_placements (region, retired)",
    f"CREATE TEMPORARY TABLE raw_incoming ({_TYPES.replace(' PRIMARY KEY', '')})",
)
_MOVE = """
UPDATE raw_placements SET node_id = i.node_id, region = i.region, epoch = i.epoch + 1,
  term = i.term, desired = i.desired, reason = i.reason, updated_at = i.updated_at
FROM raw_incoming AS i
WHERE raw_placements.agent_id = i.agent_id AND raw_placements.epoch = i.epoch
  AND raw_placements.term <= i.term
RETURNING raw_placements.agent_id, raw_placements.epoch
"""
_RECORD = """
INSERT INTO raw_history (agent_id, node_id, region, epoch, term, desired, reason, placed_at,
  change_id)
SELECT agent_id, node_id, region, epoch + 1, term, desired, reason, updated_at, 0 FROM raw_incoming
"""


class RawMoves(Protocol):
    """The bare driver, doing the same work."""

    def fill(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """First placements."""
        ...

    def move(self, rows: Sequence[tuple[Any, ...]]) -> int:
        """One transaction; how many rows were swapped."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class RawSqlite:
    """`sqlite3` with the durability and the pragmas of the store."""

    def __init__(self, folder: Path) -> None:
        """A file of its own."""
        self._connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "temp_store=MEMORY",
            "cache_size=-32768",
            "wal_autocheckpoint=16384",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        key = "history_id INTEGER PRIMARY KEY AUTOINCREMENT"
        for statement in (*_TABLES, f"CREATE TABLE raw_history ({key}, {_HISTORY})"):
            self._connection.execute(statement)

    def fill(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """First placements."""
        self._connection.execute("BEGIN IMMEDIATE")
        marks = ", ".join("?" * 11)
        self._connection.executemany(f"INSERT INTO raw_placements VALUES ({marks})", rows)
        self._connection.execute("COMMIT")

    def move(self, rows: Sequence[tuple[Any, ...]]) -> int:
        """One transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("DELETE FROM raw_incoming")
        marks = ", ".join("?" * 11)
        self._connection.executemany(f"INSERT INTO raw_incoming VALUES ({marks})", rows)
        moved = dict(self._connection.execute(_MOVE).fetchall())
        self._connection.execute(_RECORD)
        self._connection.execute("COMMIT")
        return len(moved)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class RawPostgres:
    """`psycopg2` with COPY."""

    def __init__(self, url: str) -> None:
        """Tables of its own."""
        self._connection = psycopg2.connect(url)
        key = "history_id BIGSERIAL PRIMARY KEY"
        with self._connection, self._connection.cursor() as cursor:
            for statement in (*_TABLES, f"CREATE TABLE raw_history ({key}, {_HISTORY})"):
                cursor.execute(statement.replace("TEXT", 'TEXT COLLATE "C"'))

    def fill(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """First placements."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.copy_expert("COPY raw_placements FROM STDIN", _tabbed(rows))

    def move(self, rows: Sequence[tuple[Any, ...]]) -> int:
        """One transaction."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute("DELETE FROM raw_incoming")
            cursor.copy_expert("COPY raw_incoming FROM STDIN", _tabbed(rows))
            cursor.execute(_MOVE)
            moved = dict(cursor.fetchall())
            cursor.execute(_RECORD)
        return len(moved)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _tabbed(rows: Sequence[tuple[Any, ...]]) -> io.StringIO:
    """COPY's text form of values that need no escapes."""
    return io.StringIO("".join("\t".join(map(str, row)) + "\n" for row in rows))


def agent_name(number: int) -> str:
    """A name of usual length."""
    return f"eu-central-1-worker-{number:06d}"


def planned(agents: int, nodes: int, shift: int, epoch: int) -> list[Placement]:
    """Placements planned on an epoch, on other nodes at each `shift`."""
    return [
        Placement(
            agent_name(number),
            f"net-{number % 50}",
            "work",
            f"node-{(number + shift) % nodes:05d}",
            f"r{(number + shift) % nodes % REGIONS}",
            epoch,
            1,
            "running",
            f"node-{number % nodes:05d} is dead: 3 of 4 observers",
            NOW,
        )
        for number in range(agents)
    ]


def raw_rows(placements: Sequence[Placement]) -> list[tuple[Any, ...]]:
    """The same as rows of the bare driver's table."""
    return [(*one[:-1], round(one.updated_at.timestamp() * 1e6), 0) for one in placements]


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(store: SqlControlStore, raw: RawMoves, fleet: tuple[int, int], rounds: int) -> None:
    """All figures of one database."""
    agents, nodes = fleet
    store.declare_agents(
        [
            AgentDeclaration(one.agent_id, one.network_id, one.workload, one.region, 10, 1)
            for one in planned(agents, nodes, 0, 0)
        ]
    )
    everybody = planned(agents, nodes, 0, 0)
    first_s = timed(lambda: store.place_agents(everybody))
    raw.fill([(*row[:5], 1, *row[6:]) for row in raw_rows(everybody)])
    print(f"  first placement of {agents}: {first_s:.2f} s")
    moved, ours, theirs = agents // 4, [], []
    for round_ in range(1, rounds + 1):
        batch = planned(moved, nodes, round_, round_)
        rows = raw_rows(batch)
        stored: list[Placement] = []
        swapped: list[int] = []
        into, count = stored.extend, swapped.append
        ours.append(timed(lambda batch=batch, into=into: into(store.place_agents(batch))))
        theirs.append(timed(lambda rows=rows, count=count: count(raw.move(rows))))
        assert (len(stored), swapped) == (moved, [moved])
    middle, bare = statistics.median(ours), statistics.median(theirs)
    print(f"  {moved} moved: {middle:.3f} s, best {min(ours):.3f} s, worst {max(ours):.3f} s")
    print(f"  bare driver: {bare:.3f} s, best {min(theirs):.3f} s; ratio {middle / bare:.2f}")
    measure_history(store, agents + rounds * moved)


def measure_history(store: SqlControlStore, rows: int) -> None:
    """Read everything back and judge it."""
    history: list[Any] = []
    read_s = timed(lambda: history.extend(store.placement_history(0, rows + 1)))
    placements = store.placements()
    found: list[Any] = []

    def judge() -> None:
        found.extend(find_double_placements(history))
        found.extend(find_stale_epochs(history, store.state_changes(0, 1000)))
        found.extend(find_missing_epochs(history, placements))

    judge_s = timed(judge)
    assert (len(history), found) == (rows, [])
    print(f"  history of {rows} rows: read in {read_s:.2f} s, judged in {judge_s:.2f} s")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the fleet, fewer rounds")
    parser.add_argument("--folder", type=Path, help="where the SQLite files go (default: /tmp)")
    arguments = parser.parse_args()
    fleet, rounds = ((10_000, 1000), 3) if arguments.quick else ((100_000, 10_000), 9)
    print(f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        url = f"sqlite:///{name}/control.db"
        print(f"SQLite {sqlite3.sqlite_version}")
        with (
            contextlib.closing(open_control_store(url, clock=SystemClock())) as store,
            contextlib.closing(RawSqlite(Path(name))) as raw,
        ):
            measure(store, raw, fleet, rounds)
    if postgres_bin_dir() is None:
        print("PostgreSQL: no binaries found")
        return
    with running_postgres(durable=True) as server:
        print(f"PostgreSQL {server.version}")
        url = server.create_database("bench")
        with (
            contextlib.closing(open_control_store(url, clock=SystemClock())) as store,
            contextlib.closing(RawPostgres(url)) as bare,
        ):
            measure(store, bare, fleet, rounds)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
