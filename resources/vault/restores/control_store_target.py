"""The live control store as the target of a restore, guarded by versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet.agents import StateRestore
from fleet.errors import (
    CorruptObjectError,
    StateroomError,
)
from fleet.ports.control_store import AgentStateStore
from resources.vault.packs.reading import ReadItem
from resources.vault.restores.staging import (
    LiveHead,
)

_NAMED = 5
"""Up to so many agents are asked for one by one."""


class ControlStoreTarget:
    """Restores into the live control store, through its version-guarded port."""

    def __init__(self, store: AgentStateStore) -> None:
        """Use an opened store."""
        self._store = store

    def heads(self, agent_ids: Sequence[str]) -> Mapping[str, LiveHead]:
        """By one query for few agents, by one listing for many."""
        if len(agent_ids) <= _NAMED:
            return {one: head for one in agent_ids if (head := self._head(one))}
        wanted = set(agent_ids)
        infos = (one for one in self._store.state_infos() if one.agent_id in wanted)
        return {one.agent_id: LiveHead(one.version, one.digest) for one in infos}

    def _head(self, agent_id: str) -> LiveHead | None:
        try:
            states = self._store.states([agent_id])
        except CorruptObjectError:
            # A damaged live state is what a restore is for; its version is in the listing.
            infos = (one for one in self._store.state_infos() if one.agent_id == agent_id)
            return next((LiveHead(one.version, "damaged") for one in infos), None)
        return LiveHead(states[0].version, states[0].digest) if states else None

    def write(
        self, items: Sequence[tuple[ReadItem, int]], *, more: bool
    ) -> list[StateroomError | None]:
        """One transaction a batch."""
        restores = [
            StateRestore(item.agent_id, expected, item.version, item.body, item.digest)
            for item, expected in items
        ]
        return [one.error for one in self._store.restore_states(restores, more=more)]
