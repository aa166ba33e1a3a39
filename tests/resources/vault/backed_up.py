"""A network of agents with countable states, backed up at home and replicated elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from fleet.agents import Workload
from fleet.errors import StoreUnavailableError
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.reports import AgentDeclaration
from fleet.vault_keys import KeyEncryptionKey
from resources.clock import SystemClock
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.keys.key_store import create_data_key, create_vault
from resources.vault.network import NetworkVault, open_network
from resources.vault.replicas.replicate import replicate
from resources.vault.snapshots.backup import BackupResult, back_up
from tests.fakes.vault_fleet import VaultFleet
from tests.resources.local.fleets import function

HOME = KeyEncryptionKey("home", b"h" * 32)
RECOVERY = KeyEncryptionKey("recovery", b"r" * 32)
COUNTING = function("count", "count")


class BackedUp:
    """Home vault, replicas, and the agents as declared."""

    def __init__(self, folder: Path, agents: int = 6) -> None:
        """Agents count from 100 on; nothing is backed up yet."""
        self.folder = folder
        self.fleet = VaultFleet(agents)
        self.clock = SystemClock()
        self.home = DirectoryObjectStore(folder / "home")
        create_vault(self.home, self.clock.now())
        create_data_key(self.home, "net", [HOME, RECOVERY])
        self.count_to(100)

    def count_to(self, number: int) -> None:
        """Every agent stores another number."""
        for agent_id in self.fleet.agent_ids:
            self.fleet.write(agent_id, json.dumps({"number": number}).encode())

    def vault(self, store: ObjectStore | None = None) -> NetworkVault:
        """A handle as a fresh process opens it."""
        return open_network(store or self.home, "net", [RECOVERY], self.clock)

    def back_up(self) -> BackupResult:
        """Take a snapshot at home."""
        return back_up(self.vault(), self.fleet.store)

    def replicate(self, region: str) -> DirectoryObjectStore:
        """Bring a region's copy up to date."""
        store = DirectoryObjectStore(self.folder / region)
        keys = self.vault().keys
        replicate(self.vault(), NetworkVault(store, keys, self.clock))
        return store

    def declared(self, workload: Workload = COUNTING) -> list[AgentDeclaration]:
        """The agents as the settings declare them."""
        return [
            AgentDeclaration(one, "net", workload.workload, "eu", 1, 1)
            for one in self.fleet.agent_ids
        ]


class UnreachableStore:
    """A region that is gone: any access fails, and is counted."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.asked: list[str] = []

    def _refuse(self, what: str) -> StoreUnavailableError:
        self.asked.append(what)
        return StoreUnavailableError(f"the region is gone ({what})")

    def create(self, key: str, data: bytes) -> bool:
        """Fails."""
        raise self._refuse(f"create {key}")

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Fails."""
        raise self._refuse(f"get {key}")

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """Fails."""
        raise self._refuse(f"list {prefix}")

    def delete(self, keys: Iterable[str]) -> None:
        """Fails."""
        raise self._refuse("delete")

    def check(self) -> list[str]:
        """Fails."""
        raise self._refuse("check")


def damage(store: DirectoryObjectStore, suffix: str, newest: bool = True) -> Path:
    """Flip one bit in the contents of the newest (or oldest) object of a kind; its file."""
    files = sorted(Path(store._root).rglob(f"*{suffix}"), key=lambda one: one.stat().st_mtime_ns)
    path = files[-1 if newest else 0]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    return path
