"""Which agents this node serves, under which epoch, and which of them have been told to stop.

The supervisor writes it (`admit`, `dismiss`, `forget`), the agents' API reads it and records their
signs of life. Invariant: an agent is served only under the epoch it was admitted with, so a copy
that was placed away hears of it at its first request, without a look into the control store. The
store still judges every put: this book is the quick check, not the fence.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple

from fleet.agents import Workload
from fleet.errors import StaleEpochError
from fleet.names import validate_name
from fleet.ports.clock import Clock
from resources.local.agent_meters import AgentMeters

NO_METRICS: Mapping[str, float] = MappingProxyType({})
NO_METERS = AgentMeters()


class StopOrder(NamedTuple):
    """Whether an agent must stop, and why (empty when it may go on)."""

    stop: bool
    reason: str


GO_ON = StopOrder(stop=False, reason="")


class AgentEntry(NamedTuple):
    """One agent as this node knows it; entries are replaced, never changed."""

    agent_id: str
    network_id: str
    workload: Workload
    epoch: int
    admitted_at: datetime
    registered_at: datetime | None = None
    """When its process first asked who it is; None before that."""
    heartbeat_at: datetime | None = None
    """Its last request of any kind under this epoch."""
    metrics: Mapping[str, float] = NO_METRICS
    """As last reported, by name."""
    metrics_at: datetime | None = None
    meters: AgentMeters = NO_METERS
    """As last reported."""
    stop_reason: str = ""
    """Why it was told to stop; empty while it may go on."""


class AgentDirectory:
    """Thread-safe book of the agents on this node."""

    def __init__(self, clock: Clock) -> None:
        """Start empty; `clock` stamps admissions and heartbeats."""
        self._clock = clock
        self._lock = Lock()
        self._entries: dict[str, AgentEntry] = {}

    def admit(self, agent_id: str, network_id: str, workload: Workload, epoch: int) -> None:
        """Serve this agent under this epoch from now on; an earlier stop order is void.

        Admitting again under the same epoch (the process was restarted) starts a fresh entry.

        Raises:
            StaleEpochError: it is already served under a higher epoch.
            InvalidInputError: `agent_id` or `network_id` is no name.
        """
        validate_name("agent_id", agent_id)
        validate_name("network_id", network_id)
        with self._lock:
            known = self._entries.get(agent_id)
            if known is not None and epoch < known.epoch:
                raise StaleEpochError(
                    f"agent {agent_id}: epoch {epoch} is lower than {known.epoch}, "
                    "under which this node already serves it",
                    hint="Read the placement again; this one has been replaced.",
                )
            self._entries[agent_id] = AgentEntry(
                agent_id, network_id, workload, epoch, self._clock.now()
            )

    def dismiss(self, agent_id: str, reason: str) -> None:
        """Tell an agent to stop: `should_stop` answers with `reason` from now on.

        It is still served, so that it can store a last checkpoint. An agent that is not in the
        book is told to stop anyway, so dismissing it changes nothing.
        """
        with self._lock:
            known = self._entries.get(agent_id)
            if known is not None:
                self._entries[agent_id] = known._replace(stop_reason=reason or "dismissed")

    def forget(self, agent_id: str) -> None:
        """Serve this agent no longer: its next request is refused."""
        with self._lock:
            self._entries.pop(agent_id, None)

    def register(self, agent_id: str, epoch: int) -> AgentEntry:
        """Record that the agent's process is up; returns its entry.

        Raises:
            StaleEpochError: see `touch`.
        """
        with self._lock:
            now = self._clock.now()
            entry = self._current(agent_id, epoch)._replace(registered_at=now, heartbeat_at=now)
            self._entries[agent_id] = entry
            return entry

    def touch(self, agent_id: str, epoch: int) -> AgentEntry:
        """Record a sign of life; returns the agent's entry.

        Raises:
            StaleEpochError: the agent is not placed on this node, or under another epoch; the
                process must stop.
        """
        with self._lock:
            entry = self._current(agent_id, epoch)._replace(heartbeat_at=self._clock.now())
            self._entries[agent_id] = entry
            return entry

    def beat(
        self,
        agent_id: str,
        epoch: int,
        metrics: Mapping[str, float] | None = None,
        meters: AgentMeters | None = None,
    ) -> StopOrder:
        """Record a heartbeat; returns whether the agent must stop.

        Args:
            agent_id: who.
            epoch: under which epoch its process was started.
            metrics: replaces those last reported; None keeps them.
            meters: likewise.

        Raises:
            StaleEpochError: see `touch`.
        """
        with self._lock:
            now = self._clock.now()
            entry = self._current(agent_id, epoch)._replace(heartbeat_at=now)
            if metrics is not None:
                entry = entry._replace(metrics=MappingProxyType(dict(metrics)), metrics_at=now)
            if meters is not None:
                entry = entry._replace(meters=meters)
            self._entries[agent_id] = entry
            return StopOrder(stop=True, reason=entry.stop_reason) if entry.stop_reason else GO_ON

    def should_stop(self, agent_id: str) -> StopOrder:
        """Say whether an agent must stop; one that is not in the book must."""
        entry = self._entries.get(agent_id)
        if entry is None:
            return StopOrder(stop=True, reason=f"agent {agent_id} is not placed on this node")
        return StopOrder(stop=True, reason=entry.stop_reason) if entry.stop_reason else GO_ON

    def entry(self, agent_id: str) -> AgentEntry | None:
        """One agent's entry; None when it is not in the book."""
        return self._entries.get(agent_id)

    def entries(self) -> list[AgentEntry]:
        """A snapshot for the node report, in order of admission."""
        with self._lock:
            return list(self._entries.values())

    def _current(self, agent_id: str, epoch: int) -> AgentEntry:
        entry = self._entries.get(agent_id)
        if entry is None:
            raise StaleEpochError(
                f"agent {agent_id} is not placed on this node",
                hint="This process must stop; if the agent was placed elsewhere, it runs there.",
            )
        if epoch != entry.epoch:
            relation = "lower" if epoch < entry.epoch else "higher"
            raise StaleEpochError(
                f"agent {agent_id}: epoch {epoch} is {relation} than {entry.epoch}, "
                "which this node serves",
                hint="This copy must stop; the other one owns the state.",
            )
        return entry
