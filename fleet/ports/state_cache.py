"""A cache before the control store: copies that may be dropped at any moment."""

from __future__ import annotations

from typing import Protocol

from fleet.agents import AgentState


class StateCache(Protocol):
    """Read-through copies of agent states; never the truth (Redis later)."""

    def get(self, agent_id: str) -> AgentState | None:
        """The cached state unless it has expired."""
        ...

    def put(self, network_id: str, state: AgentState) -> None:
        """Keep a state until its time to live runs out; an older version never replaces a newer."""
        ...

    def invalidate_agent(self, agent_id: str) -> None:
        """Forget one agent."""
        ...

    def invalidate_network(self, network_id: str) -> None:
        """Forget the agents of one network."""
        ...

    def invalidate_all(self) -> None:
        """Forget everything."""
        ...
