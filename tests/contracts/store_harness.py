"""The three control stores under one handle: open it, empty it, let time pass, damage it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from fleet.agents import Note
from fleet.ports.control_store import ControlStore
from resources.control_store.opening import open_control_store
from resources.control_store.schema import agent_states, leases, notes, scaling_standings
from resources.control_store.schema_columns import METADATA
from resources.control_store.schema_gpus import gpu_leases
from resources.control_store.schema_notes import note_changes
from resources.control_store.times import to_us
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.servers.empty_stores import sqlite_url

_numbers = itertools.count()


class StoreHarness(Protocol):
    """What the contract suite needs beside the port itself."""

    store: ControlStore
    clock: ManualClock
    exact_times: bool
    """Times come from `clock`, so that two stores can be compared to the microsecond."""

    def clear(self) -> None:
        """Empty every table."""
        ...

    def advance(self, seconds: float) -> None:
        """Let time pass for leases."""
        ...

    def damage_state(self, agent_id: str, body: bytes) -> None:
        """Replace stored bytes behind the store's back."""
        ...

    def damage_digest(self, agent_id: str, digest: str) -> None:
        """Replace a stored digest behind the store's back."""
        ...

    def delete_state(self, agent_id: str) -> None:
        """Delete a row, as a person does in the database itself."""
        ...

    def delete_note(self, note_id: str) -> None:
        """Likewise."""
        ...

    def change_note(self, note: Note) -> None:
        """Replace a row, as a person does in the database itself."""
        ...

    def damage_standing(self, workload: str, region: str, **columns: object) -> None:
        """Replace columns of a row behind the store's back."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


class MemoryHarness:
    """The fake, which is the oracle of the other two."""

    exact_times = True

    def __init__(self) -> None:
        """Start empty."""
        self.clear()

    def clear(self) -> None:
        """Start anew."""
        self.clock = ManualClock()
        self._memory = InMemoryControlStore(self.clock)
        self.store: ControlStore = self._memory

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.advance(seconds)

    def damage_state(self, agent_id: str, body: bytes) -> None:
        """Through the fake's own hook."""
        self._memory.damage_state(agent_id, body)

    def damage_digest(self, agent_id: str, digest: str) -> None:
        """Through the fake's own hook."""
        self._memory.damage_digest(agent_id, digest)

    def delete_state(self, agent_id: str) -> None:
        """Through the fake's own hook."""
        self._memory.remove_state(agent_id)

    def delete_note(self, note_id: str) -> None:
        """Through the fake's own hook."""
        self._memory.remove_note(note_id)

    def change_note(self, note: Note) -> None:
        """Through the fake's own hook."""
        self._memory.change_note(note)

    def damage_standing(self, workload: str, region: str, **columns: object) -> None:
        """Through the fake's own hook."""
        self._memory.damage_standing((workload, region), **columns)

    def close(self) -> None:
        """Nothing is open."""


class SqlHarness:
    """A SQL store with a second connection for what the port does not offer."""

    def __init__(self, url: str, *, exact_times: bool) -> None:
        """Open (and create) the store behind `url`."""
        self.clock = ManualClock()
        self.exact_times = exact_times
        self.store: ControlStore = open_control_store(url, clock=self.clock, busy_timeout_s=5.0)
        self._side = sa.create_engine(
            url.replace("postgresql://", "postgresql+psycopg2://"), poolclass=sa.NullPool
        )

    def clear(self) -> None:
        """Empty the tables and start their numbers again."""
        with self._side.begin() as connection:
            if self._side.dialect.name == "sqlite":
                for table in METADATA.sorted_tables:
                    connection.execute(table.delete())
                connection.execute(note_changes.delete())  # a trigger has logged the deletions
                connection.exec_driver_sql("DELETE FROM sqlite_sequence")
            else:
                names = ", ".join(METADATA.tables)
                connection.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY")

    def advance(self, seconds: float) -> None:
        """Move the clock; PostgreSQL's own cannot be moved, so its leases are set back instead."""
        self.clock.advance(seconds)
        if not self.exact_times:
            shift = round(seconds * 1e6)
            with self._side.begin() as connection:
                for table in (leases, gpu_leases):
                    connection.execute(
                        table.update().values(
                            renewed_at=table.c.renewed_at - shift,
                            expires_at=table.c.expires_at - shift,
                        )
                    )

    def damage_state(self, agent_id: str, body: bytes) -> None:
        """Write other bytes into the row."""
        with self._side.begin() as connection:
            connection.execute(
                agent_states.update().where(agent_states.c.agent_id == agent_id).values(body=body)
            )

    def damage_digest(self, agent_id: str, digest: str) -> None:
        """Write another digest into the row."""
        of_agent = agent_states.c.agent_id == agent_id
        with self._side.begin() as connection:
            connection.execute(agent_states.update().where(of_agent).values(digest=digest))

    def delete_state(self, agent_id: str) -> None:
        """By a statement of its own."""
        with self._side.begin() as connection:
            connection.execute(agent_states.delete().where(agent_states.c.agent_id == agent_id))

    def delete_note(self, note_id: str) -> None:
        """By a statement of its own."""
        with self._side.begin() as connection:
            connection.execute(notes.delete().where(notes.c.note_id == note_id))

    def change_note(self, note: Note) -> None:
        """By a statement of its own."""
        values = note._asdict() | {"at": to_us(note.at)}
        with self._side.begin() as connection:
            connection.execute(notes.update().where(notes.c.note_id == note.note_id).values(values))

    def damage_standing(self, workload: str, region: str, **columns: object) -> None:
        """By a statement of its own."""
        table = scaling_standings
        one = (table.c.workload == workload) & (table.c.region == region)
        with self._side.begin() as connection:
            changed = connection.execute(table.update().where(one).values(columns))
        assert changed.rowcount == 1

    def close(self) -> None:
        """Close both."""
        self.store.close()
        self._side.dispose()


def sqlite_harness(folder: Path) -> SqlHarness:
    """A new file in `folder`."""
    return SqlHarness(sqlite_url(folder, f"control-{next(_numbers)}.db"), exact_times=True)
