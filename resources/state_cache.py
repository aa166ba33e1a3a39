"""A cache of agent states in this process, and the store that reads and writes through it.

The cache is never the truth: the control store judges every put by epoch and version, so the worst
that a stale copy can do is to make a writer load again. Another process's cache does not hear of
this one's writes; its copies live at most `ttl_s`.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fleet.agents import AgentState, StatePut
from fleet.errors import InvalidInputError
from fleet.ports.clock import Clock
from fleet.ports.control_store import AgentStateStore, PutResult
from fleet.ports.state_cache import StateCache

DEFAULT_TTL_S = 3600.0
DEFAULT_MAX_BYTES = 256 * 1024 * 1024

_ENTRY_BYTES = 1024
"""Charged beside the body: the record, its digest, two keys, measured at about 0.9 KiB."""


class _Entry(NamedTuple):
    network_id: str
    state: AgentState
    expires_s: float
    size_bytes: int


class InProcessStateCache:
    """`fleet.ports.StateCache` in memory: least recently used out first, safe for threads."""

    def __init__(
        self,
        *,
        clock: Clock,
        ttl_s: float = DEFAULT_TTL_S,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        """Start empty.

        Args:
            clock: only its monotonic time is used, so a wall clock set back revives nothing.
            ttl_s: seconds that a copy may be used.
            max_bytes: of all copies together, with 1 KiB charged for each beside its body.

        Raises:
            InvalidInputError: a limit is not above 0.
        """
        for field, value in (("ttl_s", ttl_s), ("max_bytes", max_bytes)):
            if not value > 0:
                raise InvalidInputError(field, value, "numbers above 0")
        self._clock = clock
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._networks: dict[str, set[str]] = {}
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What all copies together are charged."""
        return self._size_bytes

    def get(self, agent_id: str) -> AgentState | None:
        """The cached state unless it has expired."""
        with self._lock:
            entry = self._entries.get(agent_id)
            if entry is None:
                return None
            if self._clock.monotonic_s() >= entry.expires_s:
                self._drop(agent_id)
                return None
            self._entries.move_to_end(agent_id)
            return entry.state

    def put(self, network_id: str, state: AgentState) -> None:
        """Keep a state; an older version never replaces a newer one that is still held.

        A state that is larger than the whole cache is not kept, and its older version is dropped.
        """
        size_bytes = len(state.body) + _ENTRY_BYTES
        with self._lock:
            known = self._entries.get(state.agent_id)
            if known is not None:
                if known.state.version > state.version:
                    return
                self._drop(state.agent_id)
            if size_bytes > self._max_bytes:
                return
            expires_s = self._clock.monotonic_s() + self._ttl_s
            self._entries[state.agent_id] = _Entry(network_id, state, expires_s, size_bytes)
            self._networks.setdefault(network_id, set()).add(state.agent_id)
            self._size_bytes += size_bytes
            while self._size_bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

    def invalidate_agent(self, agent_id: str) -> None:
        """Forget one agent."""
        with self._lock:
            if agent_id in self._entries:
                self._drop(agent_id)

    def invalidate_network(self, network_id: str) -> None:
        """Forget the agents of one network."""
        with self._lock:
            for agent_id in list(self._networks.get(network_id, ())):
                self._drop(agent_id)

    def invalidate_all(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._networks.clear()
            self._size_bytes = 0

    def _drop(self, agent_id: str) -> None:
        entry = self._entries.pop(agent_id)
        self._size_bytes -= entry.size_bytes
        members = self._networks[entry.network_id]
        members.discard(agent_id)
        if not members:
            del self._networks[entry.network_id]


class CachedAgentStates:
    """Reads and writes agent states through a cache; the store is always asked first to write."""

    def __init__(
        self, store: AgentStateStore, cache: StateCache, network_of: Callable[[str], str]
    ) -> None:
        """Put `cache` before `store`.

        Args:
            store: judges and keeps every put.
            cache: holds copies.
            network_of: the network of an agent_id, under which its copy can be invalidated.
        """
        self._store = store
        self._cache = cache
        self._network_of = network_of

    def put_states(self, puts: Sequence[StatePut]) -> list[PutResult]:
        """Store durably, then cache what was accepted.

        The old copies are dropped first: from the commit until the new copy is there, a reader must
        ask the store. A refused put shows that the copy may be stale, and a failed call leaves open
        what was stored: both leave no copy, so that the next read asks the store, too.
        """
        for put in puts:
            self._cache.invalidate_agent(put.agent_id)
        try:
            results = self._store.put_states(puts)
        except BaseException:
            for put in puts:
                self._cache.invalidate_agent(put.agent_id)
            raise
        for put, result in zip(puts, results, strict=True):
            if result.updated_at is None:
                self._cache.invalidate_agent(put.agent_id)
                continue
            digest = hashlib.sha256(put.body).hexdigest()
            state = AgentState(
                put.agent_id, result.version, put.epoch, digest, put.body, result.updated_at
            )
            self._cache.put(self._network_of(put.agent_id), state)
        return results

    def state(self, agent_id: str) -> AgentState | None:
        """The cached state, else the store's, which is then cached; None when there is none.

        Raises:
            CorruptObjectError: the store's bytes do not match their digest.
        """
        cached = self._cache.get(agent_id)
        if cached is not None:
            return cached
        stored = self._store.state(agent_id)
        if stored is not None:
            self._cache.put(self._network_of(agent_id), stored)
        return stored
