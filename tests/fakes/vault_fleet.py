"""A small network with states, and a vault to back it up into."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from fleet.agents import Placement, StatePut
from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ObjectStore
from fleet.reports import AgentDeclaration
from resources.vault.network import NetworkVault
from resources.vault.restores.restore import ControlStoreTarget, restore
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore

KEYS = PackKeys(b"d" * 32, "net.0001", "net")
AT = datetime(2026, 11, 20, 14, tzinfo=UTC)


def body_of(agent_id: str, version: int) -> bytes:
    """Half compressible, different for each agent and version."""
    chance = random.Random(f"{agent_id} {version}")
    return agent_id.encode() * chance.randrange(1, 40) + chance.randbytes(chance.randrange(200))


class VaultFleet:
    """Agents of one network in the in-memory control store."""

    def __init__(self, agents: int = 6, network_id: str = "net") -> None:
        """Declare, place and write a first state each."""
        self.clock = ManualClock(AT)
        self.network_id = network_id
        self.store = InMemoryControlStore(self.clock)
        self.agent_ids = [f"agent-{number:04d}" for number in range(agents)]
        self.declare(self.store, self.agent_ids)
        self.change(*self.agent_ids)

    def declare(self, store: InMemoryControlStore, agent_ids: list[str]) -> None:
        """Declare and place agents in a control store."""
        shapes = [AgentDeclaration(one, self.network_id, "w", "eu", 1, 1) for one in agent_ids]
        store.declare_agents(shapes)
        store.place_agents(
            [
                Placement(one, self.network_id, "w", "n", "eu", 0, 1, "running", "", AT)
                for one in agent_ids
            ]
        )

    def change(self, *agent_ids: str) -> None:
        """Write the next version of these agents."""
        for agent_id in agent_ids:
            self.write(agent_id, body_of(agent_id, self.version(agent_id) + 1))

    def write(self, agent_id: str, body: bytes) -> None:
        """Write a state."""
        (result,) = self.store.put_states([StatePut(agent_id, 1, self.version(agent_id), body)])
        assert result.error is None

    def version(self, agent_id: str) -> int:
        """The live version; 0 for none."""
        state = self.store.state(agent_id)
        return state.version if state else 0

    def drop(self, agent_id: str) -> None:
        """Take an agent's state away, as a lost row does."""
        self.store.remove_state(agent_id)

    def bodies(self) -> dict[str, bytes]:
        """All live states."""
        return {one.agent_id: one.body for one in self.store.states(self.agent_ids)}

    def vault(self, store: ObjectStore) -> NetworkVault:
        """A vault handle as a fresh process opens it."""
        return NetworkVault(store, KEYS, self.clock)

    def restored(self, store: ObjectStore, snapshot_id: str) -> dict[str, bytes]:
        """What a snapshot holds, by a full restore into an empty control store."""
        empty = InMemoryControlStore(self.clock)
        self.declare(empty, self.agent_ids)
        vault = self.vault(store)
        vault.read_only = True  # to look must not append a hold
        result = restore(vault, ControlStoreTarget(empty), snapshot_id=snapshot_id)
        assert result.refused == ()
        return {one.agent_id: one.body for one in empty.states(self.agent_ids)}
