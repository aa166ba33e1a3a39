"""What it costs to know which indexes wait, and what the log of notes adds to a note: `--quick`.

The look of `vector_refresh_sensor` (all networks, one read) beside the least that a look can cost
(one row by its key), and appending notes with the triggers of the log beside without them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fleet.agents import Note
from fleet.vectors.health import COUNT_MAX
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.control_store.store import SqlControlStore

QUICK = "--quick" in sys.argv
NETWORKS = 20 if QUICK else 200
NOTES = 1_000 if QUICK else 5_000
"""Of each network."""
ROUNDS = 5 if QUICK else 15
BATCH = 50
AT = datetime(2026, 11, 21, tzinfo=UTC)
TRIGGERS = ("notes_added", "notes_deleted", "notes_changed", "notes_moved")


def median_ms(act: Callable[[], object]) -> float:
    """Median of several rounds, after one that is not counted."""
    act()
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


def notes_of(network: int, first: int, count: int) -> list[Note]:
    """Notes of one network."""
    return [
        Note(
            f"{first + number:012x}-{network:04x}",
            f"agent-{network}-{number % 50}",
            f"network-{network:03d}",
            AT + timedelta(seconds=number),
            f"disk {number} was busy: {number % 100} % of the time in use",
        )
        for number in range(count)
    ]


def fill(store: SqlControlStore) -> None:
    """The same notes in every network."""
    for network in range(NETWORKS):
        store.append_notes(notes_of(network, 0, NOTES))


def catch_up(store: SqlControlStore, waiting: int) -> None:
    """Leave so many notes of each network waiting."""
    for one in store.note_backlogs(1):
        changes = store.note_changes(one.network_id, 0, COUNT_MAX)
        at = changes[-1 - waiting].change_id
        store.change_index_standing(
            one.network_id, lambda old, at=at: old._replace(indexed_change=at)
        )


def looks(store: SqlControlStore, path: Path) -> None:
    """The sensor's look, idle and busy, against one row by its key."""
    engine = sa.create_engine(f"sqlite:///{path}")

    def floor() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(
                "SELECT value FROM store_properties WHERE name = 'roster_version'"
            ).all()

    least = median_ms(floor)
    print(f"{NETWORKS} networks with {NOTES} notes each, SQLite; medians of {ROUNDS} rounds")
    print(f"  one row by its key                 {least:8.3f} ms")
    for waiting in (0, 100, 1_000):
        if waiting < NOTES:
            catch_up(store, waiting)
            took = median_ms(lambda: store.note_backlogs(10_000))
            each = 1000 * took / NETWORKS
            print(
                f"  a look, {waiting:5d} waiting in each      {took:8.3f} ms  "
                f"{took / least:6.1f} x  ({each:.0f} us a network)"
            )
    engine.dispose()


def appends(folder: Path) -> None:
    """Batches of notes in two stores, one without the log, in turn: load hits both alike."""
    stores = [open_store(folder / f"{name}.db") for name in ("logged", "bare")]
    engine = sa.create_engine(f"sqlite:///{folder / 'bare.db'}")
    with engine.begin() as connection:
        for name in TRIGGERS:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
    engine.dispose()
    took: list[list[float]] = [[], []]
    for round_number in range(4 * ROUNDS):
        notes = notes_of(0, round_number * BATCH, BATCH)
        for store, times in zip(stores, took, strict=True):
            began = time.perf_counter()
            store.append_notes(notes)
            times.append(1000 * (time.perf_counter() - began))
    with_log, without = map(statistics.median, took)
    print(f"appending {BATCH} notes durably")
    print(f"  without the log                    {without:8.3f} ms")
    print(f"  with the log                       {with_log:8.3f} ms  {with_log / without:6.2f} x")
    for store in stores:
        store.close()


def open_store(path: Path) -> SqlControlStore:
    """A new store."""
    return open_control_store(f"sqlite:///{path}", clock=SystemClock())


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "control.db"
        store = open_store(path)
        fill(store)
        looks(store, path)
        store.close()
        appends(Path(folder))


if __name__ == "__main__":
    main()
