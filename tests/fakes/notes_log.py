"""The log of notes and the standings of indexes in memory: the oracle of the SQL ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from threading import RLock
from typing import NamedTuple

from fleet.agents import Note, Placement
from fleet.errors import LeaseLostError
from fleet.leases import Lease
from fleet.ports.clock import Clock
from fleet.ports.note_store import NoteBacklog, NoteChange
from fleet.vectors.standing import IndexStanding, lease_name


class _Logged(NamedTuple):
    change_id: int
    network_id: str
    note_id: str
    changed_at: datetime


class InMemoryNotesLog:
    """The `NoteIndexStore` port over the notes of `InMemoryControlStore`."""

    clock: Clock
    _lock: RLock
    _leases: dict[str, Lease]
    _notes: dict[str, Note]
    _placements: dict[str, Placement]

    def __init__(self) -> None:
        """Start empty."""
        self._note_log: list[_Logged] = []
        self._standings: dict[str, tuple[int, IndexStanding]] = {}

    def log_note(self, note: Note) -> None:
        """What the triggers of the schema do."""
        number = len(self._note_log) + 1
        logged = _Logged(number, note.network_id, note.note_id, self.clock.now())
        self._note_log.append(logged)

    def remove_note(self, note_id: str) -> None:
        """Delete a row, as a person does in the database itself."""
        with self._lock:
            self.log_note(self._notes.pop(note_id))

    def change_note(self, note: Note) -> None:
        """Replace a row, as a person does in the database itself."""
        with self._lock:
            self._notes[note.note_id] = note
            self.log_note(note)

    def note_changes(self, network_id: str, after: int, limit: int) -> list[NoteChange]:
        """Changes of a network after a cursor."""
        with self._lock:
            mine = [one for one in self._note_log if one.network_id == network_id]
            return [self._change(one, network_id) for one in mine if one.change_id > after][:limit]

    def _change(self, logged: _Logged, network_id: str) -> NoteChange:
        note = self._notes.get(logged.note_id)
        if note is None or note.network_id != network_id:
            return NoteChange(logged.change_id, logged.note_id, None, None)
        placed = self._placements.get(note.agent_id)
        region = None if placed is None else placed.region
        return NoteChange(logged.change_id, logged.note_id, note, region)

    def note_ids(self, network_id: str, after: str, limit: int) -> Sequence[str]:
        """Ids after a cursor."""
        with self._lock:
            mine = [one.note_id for one in self._notes.values() if one.network_id == network_id]
        return sorted(note_id for note_id in mine if note_id > after)[:limit]

    def note_backlogs(self, count_max: int) -> list[NoteBacklog]:
        """What waits, network by network."""
        found = []
        with self._lock:
            for network_id in sorted({one.network_id for one in self._note_log}):
                standing = self.index_standing(network_id)
                mine = [one for one in self._note_log if one.network_id == network_id]
                late = [one for one in mine if one.change_id > standing.indexed_change]
                found.append(
                    NoteBacklog(
                        network_id,
                        standing,
                        min(len(late), count_max),
                        late[0].changed_at if late else None,
                        mine[-1].change_id,
                        self._leases.get(lease_name(network_id)),
                    )
                )
        return found

    def index_standing(self, network_id: str) -> IndexStanding:
        """The standing, or one without anything."""
        with self._lock:
            return self._standings.get(network_id, (0, IndexStanding(network_id)))[1]

    def change_index_standing(
        self,
        network_id: str,
        change: Callable[[IndexStanding], IndexStanding],
        term: int | None = None,
    ) -> IndexStanding:
        """Read, change, write, under the lock."""
        with self._lock:
            held, standing = self._standings.get(network_id, (0, IndexStanding(network_id)))
            if term is not None and term < held:
                raise LeaseLostError(f"index of {network_id}: term {term} has ended")
            changed = change(standing)
            self._standings[network_id] = (max(held, term or 0), changed)
            return changed
