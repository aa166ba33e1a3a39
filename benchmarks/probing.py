"""What probing costs: a supervisor's CPU per round, and the store's part at 1,000 and 10,000 nodes.

Usage: python benchmarks/probing.py [--quick]

Prints medians of several rounds:
(a) CPU of a real supervisor (its zygote included) with probing against one that hardly probes, per
    round and per probe, and the ratio to a bare exchange of the same bytes between two sockets;
(b) 1,000 probe reports stored, one transaction each and in one batch, on SQLite and PostgreSQL with
    fsync on, and the ratio to the bare driver writing the same rows;
(c) the controller's reads at 10,000 nodes: beats, reports, work, plan, votes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sdk"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg2
from psycopg2.extras import execute_values

from fleet.agents import Placement, StatePut
from fleet.inventory import AgentPhase
from fleet.leases import node_lease_name
from fleet.ports.control_store import ControlStore, LeaseWish
from fleet.probe_reports import Probe, ProbeOutcome, ProbeReport
from fleet.probe_votes import VoteBook
from fleet.probing import PRODUCTION_PROBING, ProbePolicy, plan_probes
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.linux_processes import child_pids, read_stat
from tests.resources.local.fleets import Fleet, node, open_fleet
from tests.servers.postgres import postgres_bin_dir, running_postgres

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OFTEN = ProbePolicy(interval_s=0.25, timeout_s=0.12, refresh_s=0.5, fresh_s=5.0)
SELDOM = ProbePolicy(interval_s=3000.0, timeout_s=0.5, refresh_s=3000.0, fresh_s=6000.0)
UPSERT = (
    "INSERT INTO probe_reports VALUES ({}) ON CONFLICT (observer_id) DO UPDATE SET"
    " boot_id=excluded.boot_id, round=excluded.round, reported_at=excluded.reported_at,"
    " received_at=excluded.received_at, probes_json=excluded.probes_json"
)


def median_s(work: Callable[[int], object], rounds: int) -> float:
    """Median seconds of a call, after one that warms up; it is given the number of the round."""
    times = []
    for number in range(rounds + 1):
        started_s = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - started_s)
    return statistics.median(times[1:])


# -- (a) supervisors ------------------------------------------------------------------------------


def cpu_s(fleet: Fleet, node_id: str) -> float:
    """CPU of a supervisor and its zygote so far."""
    pid = fleet.run(node_id).process.pid
    stats = [read_stat(one) for one in (pid, *child_pids(pid))]
    return sum(stat.cpu_s for stat in stats if stat is not None)


def probes_of(fleet: Fleet) -> tuple[int, int]:
    """Rounds that were reported, and probes in one of them, of node n1."""
    reports = {report.observer_id: report for report in fleet.store.probe_reports()}
    found = reports.get("n1")
    return (0, 0) if found is None else (found.round, len(found.probes))


def supervisors_cpu(policy: ProbePolicy, seconds: float) -> tuple[float, int]:
    """CPU seconds per second of a mean supervisor of six, and the probes that it makes a round."""
    names = [f"n{number}" for number in range(1, 7)]
    with open_fleet() as fleet:
        declared = [node(name, f"r{number % 3}") for number, name in enumerate(names)]
        fleet.start(declared, probing=policy, heartbeat_interval_s=1.0)
        time.sleep(2.0)
        before, started_s = sum(cpu_s(fleet, name) for name in names), time.perf_counter()
        time.sleep(seconds)
        used_s = sum(cpu_s(fleet, name) for name in names) - before
        rate = used_s / len(names) / (time.perf_counter() - started_s)
        return rate, probes_of(fleet)[1]


def bare_exchange_cpu_s(count: int) -> float:
    """CPU of one exchange of the same bytes over a new connection, both ends, without any code."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n" + b"x" * 90
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(count):
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        started_s = time.process_time()
        thread.start()
        for _ in range(count):
            with socket.create_connection(server.getsockname()) as client:
                client.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:12345\r\n\r\n")
                while client.recv(4096):
                    pass
        thread.join()
        return (time.process_time() - started_s) / count


def measure_supervisors(seconds: float, rounds: int) -> None:
    """Print (a)."""
    costs, idle, probes = [], [], 0
    for _ in range(rounds):
        seldom, _ = supervisors_cpu(SELDOM, seconds)
        often, probes = supervisors_cpu(OFTEN, seconds)
        idle.append(seldom)
        costs.append((often - seldom) * OFTEN.interval_s)
    per_round = statistics.median(costs)
    bare = bare_exchange_cpu_s(2000)
    # In a round each node asks as often as it answers, so both ends of `probes` exchanges.
    per_probe = per_round / max(1, probes)
    print(
        f"(a) supervisor, {probes} probes a round, both ends and the report: "
        f"{1000 * per_round:.2f} ms CPU a round, {1000 * per_probe:.2f} ms a probe, "
        f"{per_probe / bare:.1f} x a bare exchange ({1e6 * bare:.0f} us)"
    )
    print(
        f"    at one round a second {100 * per_round:.2f} % of a core, "
        f"beside {100 * statistics.median(idle):.2f} % without probing"
    )


# -- (b) reports ----------------------------------------------------------------------------------


def reports_of(names: list[str], number: int) -> list[ProbeReport]:
    """What observers with five targets each report."""
    probes = tuple(
        Probe(f"node-{target:05d}", ProbeOutcome.ANSWERED, "0123456789abcdef" * 2, 0, 0.91, "")
        for target in range(5)
    )
    return [ProbeReport(name, "boot", number + 1, NOW, probes) for name in names]


def rows_of(reports: list[ProbeReport]) -> list[tuple[object, ...]]:
    """The same as rows."""
    return [
        (r.observer_id, r.boot_id, r.round, 1, 2, json.dumps(r.probes, separators=(",", ":")))
        for r in reports
    ]


def measure_reports(
    kind: str, store: ControlStore, write_raw: Callable[[list[tuple[object, ...]]], None]
) -> None:
    """Print (b) for one database."""
    names = [f"node-{number:05d}" for number in range(1000)]
    store.acquire_leases([LeaseWish(node_lease_name(name), "boot", 3600.0) for name in names])

    def one_by_one(number: int) -> None:
        for report in reports_of(names[:200], number):
            store.report_probes(report)

    def raw_one_by_one(number: int) -> None:
        for row in rows_of(reports_of(names[:200], number)):
            write_raw([row])

    single = median_s(one_by_one, 3) / 200
    raw_single = median_s(raw_one_by_one, 3) / 200
    batch = median_s(lambda n: store.report_probes_of_many(reports_of(names, 100 + n)), 5)
    raw_batch = median_s(lambda n: write_raw(rows_of(reports_of(names, 200 + n))), 5)
    print(
        f"(b) {kind}: one transaction each {1 / single:,.0f} reports/s "
        f"({single / raw_single:.2f} x the bare driver's time); "
        f"1,000 in one {1000 * batch:.1f} ms = {1000 / batch:,.0f}/s "
        f"({batch / raw_batch:.2f} x)"
    )


def measure_sqlite_reports(folder: Path) -> None:
    """(b) on SQLite."""
    path = folder / "reports.db"
    with (
        contextlib.closing(open_control_store(f"sqlite:///{path}", clock=SystemClock())) as store,
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw,
    ):
        raw.execute("PRAGMA synchronous=FULL")
        statement = UPSERT.format("?,?,?,?,?,?")

        def write(rows: list[tuple[object, ...]]) -> None:
            raw.execute("BEGIN IMMEDIATE")
            raw.executemany(statement, rows)
            raw.execute("COMMIT")

        measure_reports("SQLite", store, write)


@contextlib.contextmanager
def postgres_url() -> Iterator[str]:
    """An empty database of a durable server."""
    with running_postgres(durable=True) as server:
        yield server.create_database("probing")


def measure_postgres(nodes: int) -> None:
    """(b) and (c) on PostgreSQL."""
    with (
        postgres_url() as url,
        contextlib.closing(open_control_store(url, clock=SystemClock())) as store,
        contextlib.closing(psycopg2.connect(url)) as raw,
    ):
        statement = UPSERT.replace("({})", "%s")

        def write(rows: list[tuple[object, ...]]) -> None:
            with raw.cursor() as cursor:
                execute_values(cursor, statement, rows, page_size=1000)
            raw.commit()

        measure_reports("PostgreSQL", store, write)
        fill(store, nodes)
        measure_reads("PostgreSQL", store, nodes, None)


# -- (c) reads ------------------------------------------------------------------------------------


def fill(store: ControlStore, nodes: int) -> list[str]:
    """Nodes with ten reported agents each, their leases, probe reports, states."""
    names = [f"node-{number:05d}" for number in range(nodes)]
    regions = [f"r{number % 4}" for number in range(nodes)]
    store.declare_nodes(
        [
            NodeDeclaration(name, region, f"{region}-{number // 4 % 3}", 1, 1)
            for number, (name, region) in enumerate(zip(names, regions, strict=True))
        ]
    )
    agents = [f"agent-{number:06d}" for number in range(10 * nodes)]
    shapes = [AgentDeclaration(name, "net", "w", "r0", 1, 1) for name in agents]
    placed = [
        Placement(name, "net", "w", names[number // 10], "r0", 0, 0, "running", "", NOW)
        for number, name in enumerate(agents)
    ]
    for first in range(0, len(agents), 5000):
        store.declare_agents(shapes[first : first + 5000])
        store.place_agents(placed[first : first + 5000])
    for first in range(0, nodes, 1000):
        chunk = names[first : first + 1000]
        wishes = [LeaseWish(node_lease_name(name), "boot", 3600.0) for name in chunk]
        leases = [result.lease for result in store.acquire_leases(wishes)]
        said = [node_report(name, agents[10 * n : 10 * n + 10]) for n, name in enumerate(chunk)]
        store.report_nodes([(r, lease) for r, lease in zip(said, leases, strict=True) if lease])
        store.report_probes_of_many(reports_of(chunk, 1000))
    for first in range(0, min(50_000, len(agents)), 5000):
        store.put_states([StatePut(name, 1, 0, b"state") for name in agents[first : first + 5000]])
    return names


def node_report(node_id: str, agent_ids: list[str]) -> NodeReport:
    """A report with its agents."""
    agents = tuple(
        AgentReport(name, 1, AgentPhase.RUNNING, 7, NOW, NOW, 0, 0.5, 1 << 20, "its process runs")
        for name in agent_ids
    )
    return NodeReport(node_id, "boot", 1, "h:1", NOW, NOW, 1.0, 1, 1, agents, ())


def measure_reads(
    kind: str, store: ControlStore, nodes: int, raw: sqlite3.Connection | None
) -> None:
    """Print the store's part of (c)."""
    beats = median_s(lambda _: store.node_beats(), 9)
    ratio = ""
    if raw is not None:
        columns = (
            "SELECT node_id FROM nodes",
            "SELECT node_id, boot_id, received_at, oldest_heartbeat_at FROM node_reports",
            "SELECT name, holder, term, renewed_at, expires_at, ttl_s FROM leases",
        )
        scans = median_s(lambda _: [raw.execute(text).fetchall() for text in columns], 9)
        ratio = f" ({beats / scans:.1f} x the three bare scans)"
    everything = median_s(lambda _: store.probe_reports(), 5)
    nothing = median_s(lambda _: store.probe_reports(datetime.now(UTC)), 9)
    work = median_s(lambda _: store.work_seen(), 5)
    later = store.work_seen().cursor
    idle = median_s(lambda _: store.work_seen(later), 9)
    full = median_s(lambda _: store.nodes(), 3)
    print(
        f"(c) {kind}, {nodes} nodes: node_beats {1000 * beats:.1f} ms{ratio}, "
        f"nodes() {1000 * full:.0f} ms; probe_reports {1000 * everything:.0f} ms, "
        f"none new {1000 * nothing:.1f} ms; work_seen of 50,000 states {1000 * work:.0f} ms, "
        f"none new {1000 * idle:.1f} ms"
    )


def measure_votes(store: ControlStore) -> None:
    """Print what a controller computes from what it read."""
    members = store.roster().members
    plan_s = median_s(lambda _: plan_probes(members, PRODUCTION_PROBING), 3)
    plan = plan_probes(members, PRODUCTION_PROBING)
    book = VoteBook(members, plan, PRODUCTION_PROBING)
    names = tuple(plan.observers)

    def reports(number: int) -> list[ProbeReport]:
        return [
            ProbeReport(
                name,
                "b",
                number,
                NOW,
                tuple(Probe(t, ProbeOutcome.ANSWERED, "b", 0, 1.0, "") for t in targets),
            )
            for name, targets in plan.targets.items()
        ]

    batches = [reports(number) for number in range(6)]
    take_s = median_s(lambda number: book.take(batches[number], float(number)), 5)
    columns_s = median_s(lambda _: book.columns(names, 5.0), 9)
    print(
        f"    plan of {len(members)} nodes {plan_s:.2f} s (when the roster changes); "
        f"votes: {len(members)} new reports {1000 * take_s:.0f} ms, "
        f"columns {1000 * columns_s:.1f} ms"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, fewer rounds")
    quick = parser.parse_args().quick
    nodes = 1000 if quick else 10_000
    measure_supervisors(*((6.0, 1) if quick else (15.0, 3)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure_sqlite_reports(folder)
        path = folder / "control.db"
        with (
            contextlib.closing(
                open_control_store(f"sqlite:///{path}", clock=SystemClock())
            ) as store,
            contextlib.closing(sqlite3.connect(path)) as raw,
        ):
            fill(store, nodes)
            measure_reads("SQLite", store, nodes, raw)
            measure_votes(store)
    if postgres_bin_dir() is None:
        print("no PostgreSQL binaries: its part is left out")
    else:
        measure_postgres(nodes)


if __name__ == "__main__":
    main()
