"""What the controller's rarer reads cost: stateless agents in doubt, moves of earlier leaders.

Usage: python benchmarks/failover_reads.py [--quick]

Prints medians of several rounds on SQLite and PostgreSQL:
(a) stateless agents counted on the nodes in doubt (once a tick, while any is), of 100,000 agents on
    10,000 nodes, half of them with a state; beside the bare driver joining the same two tables;
(b) moves of earlier leaders (once a term), among 10,000 ended incidents with ten journal entries
    each and 1,000 in the window; beside the bare driver reading every decision to move.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sdk"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg2

from fleet.agents import Placement, StatePut, Workload
from fleet.decided_moves import FACT, move_fact
from fleet.incident_timeline import EntryKind, fact_entry
from fleet.incidents import IncidentKind, IncidentOpening, IncidentState
from fleet.journal import JournalEntry
from fleet.moments import microseconds
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, NodeDeclaration
from ops.failover_controller import DOOMED_MAX
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from tests.servers.postgres import running_postgres

CHUNK = 5000
AGENTS_PER_NODE = 10
MOVES = 1000
ENTRIES = 10

COUNT = (
    "SELECT node_id, count(*) FROM placements WHERE retired = 0 AND NOT EXISTS "
    "(SELECT 1 FROM agent_states WHERE agent_states.agent_id = placements.agent_id) "
    "GROUP BY node_id"
)
JOIN = (
    "SELECT action_id, step, journal.subject, at, detail FROM incidents "
    "JOIN journal ON action_id = incident_id WHERE step = 'decided/move_node'"
)

Raw = Callable[[str], list[Any]]


def median_s(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of a call, after one that warms up."""
    times = []
    for _ in range(rounds + 1):
        started_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - started_s)
    return statistics.median(times[1:])


def fill_agents(store: ControlStore, nodes: int) -> list[str]:
    """Ten agents on each node, all of a stateless workload, every other one with a state."""
    now = datetime.now(UTC)
    store.declare_workloads([Workload("w", "net", function="m:f", stateless=True)])
    names = [f"node-{number:05d}" for number in range(nodes)]
    store.declare_nodes([NodeDeclaration(name, "r0", "z", 1, 1) for name in names])
    agents = [f"agent-{number:06d}" for number in range(AGENTS_PER_NODE * nodes)]
    for first in range(0, len(agents), CHUNK):
        chunk = agents[first : first + CHUNK]
        store.declare_agents([AgentDeclaration(name, "net", "w", "r0", 1, 1) for name in chunk])
        placed = [
            Placement(name, "net", "w", names[(first + number) // AGENTS_PER_NODE], "r0", 0, 0,
                      "running", "", now)
            for number, name in enumerate(chunk)
        ]  # fmt: skip
        store.place_agents(placed)
        store.put_states([StatePut(name, 1, 0, b"state") for name in chunk[::2]])
    return names


def fill_incidents(store: ControlStore, incidents: int) -> None:
    """Ended incidents with a journal each; the last ones decided a move within the window."""
    now = datetime.now(UTC)
    entries: list[JournalEntry] = []
    for number in range(incidents):
        recent = number >= incidents - MOVES
        at = now - (timedelta(seconds=30) if recent else timedelta(days=10))
        name = f"node-{number:05d}"
        header = store.open_incident(IncidentOpening(IncidentKind.NODE, name, "r0", "silent", at))
        fact = move_fact(10, "r0", microseconds(at), early=False)
        entries.append(
            fact_entry(header.incident_id, EntryKind.DECIDED, "move_node", name, "move it", at,
                       rule="terminated", facts={FACT: fact})
        )  # fmt: skip
        entries += [
            JournalEntry(header.incident_id, f"step/{one}", "done", name, "done", at, 0.1, "{}")
            for one in range(ENTRIES - 1)
        ]
        store.update_incident(
            header._replace(state=IncidentState.ENDED, ended_at=at, outcome="moved")
        )
    for first in range(0, len(entries), CHUNK):
        store.append_journal(entries[first : first + CHUNK])


def measure(kind: str, store: ControlStore, raw: Raw, nodes: int) -> None:
    """Print (a) and (b) for one database."""
    names = fill_agents(store, nodes)
    bare = median_s(lambda: raw(COUNT), 5)
    some = names[:DOOMED_MAX]
    few = median_s(lambda: store.stateless_counts(some), 9)
    everybody = median_s(lambda: store.stateless_counts(names), 5)
    counted = sum(store.stateless_counts(names).values())
    store.declare_workloads([Workload("w", "net", function="m:f")])
    nobody = median_s(lambda: store.stateless_counts(names), 9)
    print(
        f"(a) {kind}, {counted:,} of {AGENTS_PER_NODE * nodes:,} agents may go: {len(some)} nodes "
        f"in doubt (the most in a tick) {1000 * few:.1f} ms, all {nodes:,} {1000 * everybody:.0f} "
        f"ms ({everybody / bare:.1f} x the bare join, {1000 * bare:.0f} ms); no workload declared "
        f"stateless {1000 * nobody:.2f} ms; no node in doubt: no query"
    )
    fill_incidents(store, nodes)
    bare = median_s(lambda: raw(JOIN), 5)
    moves = median_s(lambda: store.decided_moves(600.0), 5)
    found = len(store.decided_moves(600.0))
    print(
        f"(b) {kind}, {nodes:,} incidents, {ENTRIES * nodes:,} journal entries: {found} moves of "
        f"the window in {1000 * moves:.1f} ms ({moves / bare:.2f} x reading every decision, "
        f"{1000 * bare:.1f} ms)"
    )


def main() -> None:
    """Measure both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the fleet")
    nodes = 1000 if parser.parse_args().quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reads.db"
        with (
            contextlib.closing(
                open_control_store(f"sqlite:///{path}", clock=SystemClock())
            ) as store,
            contextlib.closing(sqlite3.connect(path)) as connection,
        ):
            measure("SQLite", store, lambda text: connection.execute(text).fetchall(), nodes)
    with running_postgres(durable=True) as server:
        url = server.create_database("reads")
        with (
            contextlib.closing(open_control_store(url, clock=SystemClock())) as store,
            contextlib.closing(psycopg2.connect(url)) as driver,
        ):

            def fetch(text: str) -> list[Any]:
                with driver.cursor() as cursor:
                    cursor.execute(text)
                    rows = cursor.fetchall()
                driver.commit()
                return rows

            measure("PostgreSQL", store, fetch, nodes)


if __name__ == "__main__":
    main()
