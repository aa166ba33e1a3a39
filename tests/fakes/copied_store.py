"""Control stores that can be damaged, copied and put back under a process that has them open."""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from fleet.agents import AgentState
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from resources.control_store.opening import open_control_store
from tests.fakes.control_store import InMemoryControlStore
from tests.servers.empty_stores import sqlite_url


class CopiedStore(Protocol):
    """A store, and what people do to it behind its back."""

    store: ControlStore

    def damage(self, agent_id: str, body: bytes) -> None:
        """Replace stored bytes; the digest stays."""
        ...

    def delete(self, agent_id: str) -> None:
        """Delete a state."""
        ...

    def save(self) -> object:
        """Copy everything."""
        ...

    def put_back(self, saved: Any) -> None:
        """Make it as it was."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


class CopiedMemory:
    """In memory."""

    def __init__(self, clock: Clock) -> None:
        """Empty."""
        self._memory = InMemoryControlStore(clock)
        self.store: ControlStore = self._memory

    def damage(self, agent_id: str, body: bytes) -> None:
        """Through the fake's hook."""
        self._memory.damage_state(agent_id, body)

    def delete(self, agent_id: str) -> None:
        """Through the fake's hook."""
        self._memory.remove_state(agent_id)

    def save(self) -> dict[str, Any]:
        """All books."""
        return copy.deepcopy(
            {
                name: value
                for name, value in vars(self._memory).items()
                if isinstance(value, (dict, list, int, str))
            }
        )

    def put_back(self, saved: dict[str, Any]) -> None:
        """All books."""
        vars(self._memory).update(copy.deepcopy(saved))

    def close(self) -> None:
        """Nothing is open."""


class CopiedSqlite:
    """A file, copied page by page."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """A new file."""
        self._path = path
        self.store: ControlStore = open_control_store(
            sqlite_url(path.parent, path.name), clock=clock
        )

    def _run(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self._path)) as side, side:
            side.execute(statement, values)

    def damage(self, agent_id: str, body: bytes) -> None:
        """By a statement of its own."""
        self._run("UPDATE agent_states SET body = ? WHERE agent_id = ?", body, agent_id)

    def delete(self, agent_id: str) -> None:
        """By a statement of its own."""
        self._run("DELETE FROM agent_states WHERE agent_id = ?", agent_id)

    def save(self) -> bytes:
        """The database as one transaction left it."""
        with closing(sqlite3.connect(self._path)) as live:
            return live.serialize()

    def put_back(self, saved: bytes) -> None:
        """Into the same file."""
        with (
            closing(sqlite3.connect(":memory:")) as kept,
            closing(sqlite3.connect(self._path)) as live,
        ):
            # The header says WAL, which a database in memory cannot be opened in.
            kept.deserialize(saved[:18] + b"\x01\x01" + saved[20:])
            kept.backup(live)

    def close(self) -> None:
        """Close the store."""
        self.store.close()


class HookedSource:
    """What a backup reads, with something happening before states are read."""

    def __init__(self, store: ControlStore) -> None:
        """Nothing happens yet."""
        self._store = store
        self.cut_states = store.cut_states
        self.state_changes = store.state_changes
        self.meanwhile: list[Any] = []
        """Called, one before each read."""

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """Something happens, then as the store."""
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return self._store.states(agent_ids)
