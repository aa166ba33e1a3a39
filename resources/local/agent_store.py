"""The control store as a node's agents see it: states written through a cache, the rest straight.

Only this node may write an agent's state under the epoch that it serves the agent under, so a copy
of that epoch is current; a copy of any other epoch is dropped before it can be read. The store is
asked first for every write, and a refused or failed one drops the copy as well: the cache can make
a read faster, never a stale writer right.
"""

from __future__ import annotations

from collections.abc import Sequence

from fleet.agents import Activity, AgentState, Note, StatePut
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore, PutResult
from resources.local.agent_directory import AgentDirectory
from resources.state_cache import CachedAgentStates, InProcessStateCache

CACHE_MAX_BYTES = 16 * 1024 * 1024
"""Of one supervisor: enough for 1,000 agents with states of 16 KiB."""


class AgentStore:
    """What the write batcher and the agent API of one node use as their store."""

    def __init__(self, store: ControlStore, directory: AgentDirectory, clock: Clock) -> None:
        """Start with an empty cache.

        Args:
            store: judges and keeps everything.
            directory: knows network and epoch of each agent of this node.
            clock: ages the copies.
        """
        self._store = store
        self._directory = directory
        self._cache = InProcessStateCache(clock=clock, max_bytes=CACHE_MAX_BYTES)
        self._states = CachedAgentStates(store, self._cache, self._network_of)

    def put_states(self, puts: Sequence[StatePut]) -> list[PutResult]:
        """Store durably, then keep copies of what was accepted."""
        return self._states.put_states(puts)

    def state(self, agent_id: str) -> AgentState | None:
        """The newest state, from a copy of the present epoch or from the store."""
        copy = self._cache.get(agent_id)
        entry = self._directory.entry(agent_id)
        if copy is not None and (entry is None or copy.epoch != entry.epoch):
            self._cache.invalidate_agent(agent_id)
        return self._states.state(agent_id)

    def append_activities(self, activities: Sequence[Activity]) -> None:
        """Durably append."""
        self._store.append_activities(activities)

    def append_notes(self, notes: Sequence[Note]) -> None:
        """Durably append."""
        self._store.append_notes(notes)

    def _network_of(self, agent_id: str) -> str:
        entry = self._directory.entry(agent_id)
        return entry.network_id if entry is not None else ""
