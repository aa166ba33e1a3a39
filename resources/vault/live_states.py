"""Reading live states in batches, so that a damaged one does not stop the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fleet.agents import AgentState
from fleet.errors import CorruptObjectError


class LiveStates(Protocol):
    """The part of `fleet.ports.AgentStateStore` that hands out states."""

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """The newest states of these agents, digests verified."""
        ...


class ReadStates(NamedTuple):
    """A batch as it was read."""

    states: list[AgentState]
    """In the store's order; agents without a state are left out."""
    damaged: list[str]
    """Agents whose stored bytes do not match their digest."""


def read_states(source: LiveStates, agent_ids: Sequence[str]) -> ReadStates:
    """Read a batch of states, damaged ones set aside.

    One call where none is damaged; else one for each agent, because the error names only the first.

    Args:
        source: the control store.
        agent_ids: of a batch; all their bytes are in memory at once.

    Raises:
        StoreUnavailableError: the control store does not answer.
    """
    if not agent_ids:
        return ReadStates([], [])
    try:
        return ReadStates(source.states(agent_ids), [])
    except CorruptObjectError:
        read = ReadStates([], [])
        for agent_id in agent_ids:
            try:
                read.states.extend(source.states([agent_id]))
            except CorruptObjectError:
                read.damaged.append(agent_id)
        return read
