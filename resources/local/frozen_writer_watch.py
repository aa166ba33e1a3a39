"""Ends a frozen supervisor that keeps the whole fleet from writing (`fleet.frozen_writers`).

Runs as a thread of the process that owns the nodes (`stateroom up`), because nothing that needs the
store can: a leader cannot renew, a run cannot be launched, a move cannot be stored. It reads
`/proc/locks` four times a second, and looks further only while somebody who is stopped holds the
lock. What it did goes to the event log at once, and into an incident as soon as the store takes it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from fleet.errors import StateroomError
from fleet.frozen_writers import (
    FrozenMemory,
    FrozenSighting,
    FrozenWriter,
    judge_frozen_writers,
)
from fleet.incident_timeline import EntryKind, fact_entry
from fleet.incidents import IncidentKind, IncidentOpening
from fleet.inventory import NodePhase
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.infrastructure import InfrastructureVerdict, NodeFencer
from resources.local.event_log import EventLog
from resources.local.file_locks import write_lock_holders
from resources.local.linux_processes import ProcessStat, is_alive, read_stat
from resources.local.node_spec import NodeRun

LOOK_INTERVAL_S = 0.25

FENCED, SPARED = "node_fenced", "writer_frozen"
"""Kinds of events: it was ended; it would have been, and was spared for the reason given."""

_STOPPED = "T"

_STRANGER = "it is no node of this fleet; `kill -CONT` lets it go on, `kill -KILL` ends it"


class _Found(NamedTuple):
    node_id: str
    region: str
    boot_id: str
    said: str
    at: datetime


class FrozenWriterWatch:
    """Looks, judges, ends, tells.

    Args:
        database: the SQLite file of the control store.
        store: the same, for incidents and for what people have ordered.
        runs: run files of all nodes.
        fencer: ends boots.
        events: where it is told at once.
        clock: dates what is told.
        limit_s: how long a frozen writer is waited for (`hold_limit_s`).
        spares: why a node of this region must not be ended by itself; '' when it may.
    """

    def __init__(
        self,
        database: Path,
        store: ControlStore,
        runs: Callable[[], Sequence[NodeRun]],
        fencer: NodeFencer,
        events: EventLog,
        clock: Clock,
        limit_s: float,
        spares: Callable[[str, str], str],
    ) -> None:
        """Look at nothing yet."""
        self._database, self._store, self._runs = database, store, runs
        self._fencer, self._events, self._clock = fencer, events, clock
        self._limit_s, self._spares = limit_s, spares
        self._memory = FrozenMemory()
        self._untold: list[_Found] = []
        self._spared: set[tuple[int, int]] = set()
        """(pid, start) of those that were told as spared."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="frozen-writers", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching; returns when the last look is over."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        problem = ""
        while not self._stop.wait(min(LOOK_INTERVAL_S, self._limit_s / 4)):
            try:
                self.look()
            except (StateroomError, OSError, sqlite3.Error) as error:
                if problem != str(error):  # told once for as long as it stays the same
                    problem = str(error)
                    self._events.append(SPARED, "watch", f"cannot look: {error}", self._clock.now())

    def look(self) -> list[InfrastructureVerdict]:
        """Look once; returns what became of the boots that were ended now."""
        self._tell()
        sightings = self._sightings()
        regions = {one.node_id: region for one, region in sightings}
        self._memory, due = judge_frozen_writers(
            [one for one, _ in sightings], self._memory, time.monotonic(), self._limit_s
        )
        ended = [self._end(one, regions[one.sighting.node_id]) for one in due]
        self._tell()
        return [one for one in ended if one is not None]

    def _sightings(self) -> list[tuple[FrozenSighting, str]]:
        """Stopped supervisors that hold the lock while the store refuses to write; with region."""
        stopped = [
            (pid, stat)
            for pid in write_lock_holders(self._database)
            if (stat := read_stat(pid)) is not None and stat.state == _STOPPED
        ]
        if not stopped or not is_write_locked(self._database):
            return []
        runs = [one for one in self._runs() if one.phase == NodePhase.RUNNING]
        return [_sighting(pid, stat, runs) for pid, stat in stopped]

    def _end(self, writer: FrozenWriter, region: str) -> InfrastructureVerdict | None:
        seen = writer.sighting
        fact = (
            f"process {seen.pid} of boot {seen.boot_id} is stopped inside a transaction and has "
            f"kept the store's write lock for {writer.held_s:.1f} s ({writer.looks} looks), "
            "while every write is refused"
        )
        why = self._spares(seen.node_id, region) if seen.node_id else _STRANGER
        if why:
            self._say_spared(seen, f"{fact}; it is not ended: {why}")
            return None
        self._memory = FrozenMemory()  # what survives is waited for in full again
        verdict = self._fencer.fence({seen.node_id: seen.boot_id})[0]
        said = f"{fact}; it was ended: {verdict.phase}, {verdict.detail}"
        at = self._clock.now()
        self._events.append(FENCED, seen.node_id, said, at)
        self._untold.append(_Found(seen.node_id, region, seen.boot_id, said, at))
        return verdict

    def _say_spared(self, seen: FrozenSighting, said: str) -> None:
        key = (seen.pid, seen.start_ticks)
        if key not in self._spared:
            self._spared.add(key)
            self._events.append(SPARED, seen.node_id or f"{seen.pid}", said, self._clock.now())

    def _tell(self) -> None:
        """Open or find the node's incident and write down what was done; tried until it is stored.

        The controller adopts the incident when it sees the node as terminated. Idempotent: the
        incident by its key, the entry by its step.
        """
        while self._untold:
            one = self._untold[0]
            try:
                header = self._store.open_incident(
                    IncidentOpening(IncidentKind.NODE, one.node_id, one.region, one.said, one.at)
                )
                entry = fact_entry(
                    header.incident_id,
                    EntryKind.SEEN,
                    f"frozen-writer-{one.boot_id}",
                    one.node_id,
                    one.said,
                    one.at,
                )
                self._store.append_journal([entry])
            except StateroomError:
                return  # the event log has it; the next look tries again
            self._untold.pop(0)


def is_write_locked(database: Path) -> bool:
    """Ask for the write lock without waiting; True when somebody has it.

    Raises:
        sqlite3.Error: the database cannot be asked.
    """
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", timeout=0.0, uri=True)) as look:
        look.isolation_level = None
        try:
            look.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                return True
            raise
        look.execute("ROLLBACK")
        return False


def _sighting(pid: int, stat: ProcessStat, runs: Sequence[NodeRun]) -> tuple[FrozenSighting, str]:
    """The boot whose group the process belongs to, with its region; both '' for a stranger."""
    for run in runs:
        if run.process.pid == stat.process_group and is_alive(run.process):
            found = FrozenSighting(run.node_id, run.boot_id, pid, stat.start_ticks, stat.cpu_s)
            return found, run.region
    return FrozenSighting("", "unknown", pid, stat.start_ticks, stat.cpu_s), ""
