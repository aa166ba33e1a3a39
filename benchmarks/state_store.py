"""How fast the control store is, against the raw database writing the same bytes.

Usage: python benchmarks/state_store.py [--quick] [--folder DIR]

Prints, for SQLite and (when a server can be started) PostgreSQL with fsync on:
(a) durable puts of 8 KB states per second in batches, and the ratio to the bare driver;
(b) the latency of one durable put against a bare commit;
(c) is (a) and (b) on PostgreSQL, whose bare driver sends one INSERT of many rows;
(d) whole-fleet calls at 10,000 nodes and 100,000 agents.
Rounds alternate between the store and the bare driver; figures are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psycopg2
from psycopg2.extras import execute_values

from fleet.agents import Placement, StatePut
from fleet.inventory import AgentPhase
from fleet.leases import Lease, node_lease_name
from fleet.ports.control_store import LeaseWish
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from resources.control_store.opening import open_control_store
from resources.control_store.store import SqlControlStore
from tests.servers.postgres import postgres_bin_dir, running_postgres

STATE_BYTES = 8192
WRITERS_FROM = 500_000
"""Agents from this number on are the ones whose states are written."""
NOW = datetime(2026, 3, 1, tzinfo=UTC)


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Wall clock."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Monotonic clock."""
        return time.monotonic()


class RawSqlite:
    """The bare driver with the same durability, writing the same bytes and nothing else."""

    def __init__(self, folder: Path) -> None:
        """A file of its own."""
        self._connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=16384"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("CREATE TABLE s (id TEXT PRIMARY KEY, body BLOB)")

    def put(self, bodies: list[tuple[str, bytes]]) -> None:
        """One transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO s VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            bodies,
        )
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class RawPostgres:
    """The bare driver: one INSERT of many rows per transaction."""

    def __init__(self, url: str) -> None:
        """A table of its own."""
        self._connection = psycopg2.connect(url)
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute("CREATE TABLE s (id TEXT PRIMARY KEY, body BYTEA)")

    def put(self, bodies: list[tuple[str, bytes]]) -> None:
        """One transaction."""
        with self._connection, self._connection.cursor() as cursor:
            execute_values(
                cursor,
                "INSERT INTO s VALUES %s ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                bodies,
                page_size=1000,
            )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def agent_name(number: int) -> str:
    """A name of usual length."""
    return f"eu-central-1-worker-{number:06d}"


def declare(store: SqlControlStore, agents: int, nodes: int) -> None:
    """Declare a fleet; agents are not placed yet."""
    store.declare_nodes(
        [NodeDeclaration(f"node-{n:05d}", f"r{n % 6}", f"z{n % 12}", 1, 1) for n in range(nodes)]
    )
    store.declare_agents(
        [
            AgentDeclaration(agent_name(n), f"net-{n % 50}", "work", f"r{n % nodes % 6}", 10, 1)
            for n in range(agents)
        ]
    )


def placement(number: int, nodes: int, epoch: int) -> Placement:
    """A placement planned on an epoch."""
    node = number % nodes
    return Placement(
        agent_name(number),
        f"net-{number % 50}",
        "work",
        f"node-{node:05d}",
        f"r{node % 6}",
        epoch,
        1,
        "running",
        "first placement of a declared agent",
        NOW,
    )


def node_report(node: int, agents: int, nodes: int) -> NodeReport:
    """The heartbeat of one node with its agents."""
    beat = datetime.now(UTC)
    reports = tuple(
        AgentReport(agent_name(n), 1, AgentPhase.RUNNING, 4000 + n, NOW, beat, 0, 0.5, 1 << 24, "")
        for n in range(node, agents, nodes)
    )
    return NodeReport(
        f"node-{node:05d}", "boot", 1, "127.0.0.1:1", NOW, beat, 1.0, 1, 1, reports, ()
    )


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure_batches(
    store: SqlControlStore, raw: RawSqlite | RawPostgres, rounds: int, batch: int
) -> None:
    """(a) Batches of states of `batch` different agents, store and driver in turn."""
    known = {info.agent_id: info.version for info in store.state_infos()}
    versions = {n: known.get(agent_name(WRITERS_FROM + n), 0) for n in range(batch * 4)}
    ours, theirs = [], []
    for round_ in range(rounds):
        numbers = range(round_ % 4 * batch, (round_ % 4 + 1) * batch)
        bodies = [(agent_name(WRITERS_FROM + n), os.urandom(STATE_BYTES)) for n in numbers]
        puts = [
            StatePut(name, 1, versions[n], body)
            for n, (name, body) in zip(numbers, bodies, strict=True)
        ]
        results: list[Any] = []
        ours.append(timed(lambda puts=puts, into=results: into.extend(store.put_states(puts))))
        theirs.append(timed(lambda bodies=bodies: raw.put(bodies)))
        assert all(result.error is None for result in results)
        versions.update((n, versions[n] + 1) for n in numbers)
    rate, raw_rate = batch / statistics.median(ours), batch / statistics.median(theirs)
    total = rounds * batch
    print(
        f"(a) batches of {batch}: {rate:8.0f} puts/s, bare driver {raw_rate:8.0f}/s, "
        f"ratio {rate / raw_rate:.2f} (whole run {total / sum(ours):.0f} and "
        f"{total / sum(theirs):.0f}/s, ratio {sum(theirs) / sum(ours):.2f})"
    )


def measure_single(store: SqlControlStore, raw: RawSqlite | RawPostgres, rounds: int) -> None:
    """(b) One put per transaction."""
    agent_id = agent_name(WRITERS_FROM + 4000)
    ours, theirs = [], []
    for version in range(rounds):
        body = os.urandom(STATE_BYTES)
        put = StatePut(agent_id, 1, version, body)
        ours.append(timed(lambda put=put: store.put_states([put])))
        theirs.append(timed(lambda body=body: raw.put([(agent_id, body)])))
    state = store.state(agent_id)
    assert state is not None
    assert state.version == rounds
    for name, times in (("store", ours), ("bare driver", theirs)):
        cuts = statistics.quantiles(times, n=100)
        print(f"(b) one put, {name}: p50 {cuts[49] * 1e3:.2f} ms, p99 {cuts[98] * 1e3:.2f} ms")
    print(f"(b) ratio of medians {statistics.median(ours) / statistics.median(theirs):.2f}")


def hold_leases(store: SqlControlStore, nodes: int) -> list[Lease]:
    """The leases of all nodes, taken in one transaction."""
    names = [node_lease_name(f"node-{n:05d}") for n in range(nodes)]
    results = store.acquire_leases([LeaseWish(name, "boot", 3600.0) for name in names])
    return [result.lease for result in results if result.lease is not None]


def report_each(store: SqlControlStore, leases: list[Lease], agents: int) -> float:
    """A heartbeat of every node, each durable by itself; seconds."""
    reports = [node_report(n, agents, len(leases)) for n in range(len(leases))]
    start = time.perf_counter()
    for report, lease in zip(reports, leases, strict=True):
        store.report_node(report, lease)
    return time.perf_counter() - start


def report_together(store: SqlControlStore, leases: list[Lease], agents: int) -> float:
    """The same in batches of a thousand, each durable; seconds."""
    reports = [node_report(n, agents, len(leases)) for n in range(len(leases))]
    given = list(zip(reports, leases, strict=True))
    start = time.perf_counter()
    for first in range(0, len(given), 1000):
        store.report_nodes(given[first : first + 1000])
    return time.perf_counter() - start


def measure_fleet(store: SqlControlStore, nodes: int, agents: int, rounds: int) -> None:
    """(d) Whole-fleet calls."""
    moved = agents // 4
    batch = [placement(n, nodes, 0) for n in range(moved)]
    first = timed(lambda: store.place_agents(batch))
    again = [placement(n, nodes, 1) for n in range(moved)]
    second = timed(lambda: store.place_agents(again))
    store.place_agents([placement(n, nodes, 0) for n in range(moved, agents)])
    print(f"(d) place_agents of {moved}: first {first:.2f} s, move {second:.2f} s")
    took_s = timed(lambda: hold_leases(store, nodes))
    print(f"(d) {nodes} leases in one transaction: {took_s:.2f} s")
    leases = hold_leases(store, nodes)
    each_s, together_s = report_each(store, leases, agents), report_together(store, leases, agents)
    print(f"(d) heartbeat: {each_s / nodes * 1e3:.2f} ms each, durable")
    print(f"(d) heartbeats of {nodes} nodes in batches: {together_s:.2f} s")
    print(f"(d) ratio of one by one to batches {each_s / together_s:.1f}")
    for name, call in (
        ("agents()", store.agents),
        ("agents('r1')", lambda: store.agents("r1")),
        ("fleet_counts()", store.fleet_counts),
        ("nodes()", store.nodes),
        ("placements()", store.placements),
    ):
        times = [timed(call) for _ in range(rounds)]
        print(f"(d) {name}: {statistics.median(times):.3f} s")
    assert len(store.agents()) == agents


@contextlib.contextmanager
def postgres_url() -> Iterator[str]:
    """A database of a server with fsync on."""
    with running_postgres(durable=True) as server:
        print(f"PostgreSQL {server.version}")
        yield server.create_database("bench")


def measure(store: SqlControlStore, raw: RawSqlite | RawPostgres, *, quick: bool) -> None:
    """All figures of one database."""
    nodes, agents = (1000, 10_000) if quick else (10_000, 100_000)
    declare(store, agents, nodes)
    measure_fleet(store, nodes, agents, 3 if quick else 5)
    writers = [placement(WRITERS_FROM + n, nodes, 0) for n in range(4001)]
    store.declare_agents(
        [AgentDeclaration(w.agent_id, w.network_id, w.workload, w.region, 1, 1) for w in writers]
    )
    store.place_agents(writers)
    for batch in (100, 1000):
        measure_batches(store, raw, 8 if quick else 40, batch)
    measure_single(store, raw, 300 if quick else 2000)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the fleet, fewer rounds")
    parser.add_argument("--folder", type=Path, help="where the SQLite files go (default: /tmp)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        print(f"SQLite {sqlite3.sqlite_version}, states of {STATE_BYTES} bytes")
        with (
            contextlib.closing(
                open_control_store(f"sqlite:///{folder}/control.db", clock=SystemClock())
            ) as store,
            contextlib.closing(RawSqlite(folder)) as raw,
        ):
            measure(store, raw, quick=arguments.quick)
    if postgres_bin_dir() is None:
        print("PostgreSQL: no binaries found")
        return
    with (
        postgres_url() as url,
        contextlib.closing(open_control_store(url, clock=SystemClock())) as store,
        contextlib.closing(RawPostgres(url)) as raw,
    ):
        measure(store, raw, quick=arguments.quick)


if __name__ == "__main__":
    main()
