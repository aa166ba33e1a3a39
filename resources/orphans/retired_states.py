"""States of agents that are not declared any more."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.cleanup import LeftKind, Orphan
from fleet.ports.control_store import ControlStore


class RetiredStates:
    """Compares the states of the control store with its agents: two listings, no bytes."""

    def __init__(self, store: ControlStore) -> None:
        """Remember the store."""
        self._store = store
        self.kind = LeftKind.RETIRED_STATE

    def orphans(self) -> Iterator[Orphan]:
        """See the port; states are listed first, so that an agent declared meanwhile is known."""
        infos = self._store.state_infos()
        declared = {agent.agent_id for agent in self._store.agents()}
        for info in infos:
            if info.agent_id not in declared:
                detail = f"state of network {info.network_id}, whose agent is not declared"
                yield Orphan(
                    LeftKind.RETIRED_STATE.value,
                    info.agent_id,
                    info.region,
                    info.size_bytes,
                    info.updated_at,
                    detail,
                )
