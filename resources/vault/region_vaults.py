"""The vaults of all regions behind one handle: what ops, sensors and commands open backups with.

Opened stores and keys live as long as the handle (a run, a tick, a command); networks are opened
at the first use. Nothing is read or written before that, nor is a cipher imported: the definitions
name this class, and every run would pay for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleet.backup_declaration import BackupDeclaration, VaultLocation
from fleet.errors import NotFoundError, PermanentError
from fleet.ports.clock import Clock
from fleet.ports.key_wrapper import KeyWrapper
from fleet.ports.object_store import ObjectStore
from resources.vault.keys.wrapping_keys import create_key_file, read_wrapping_key

if TYPE_CHECKING:
    from resources.vault.network import NetworkVault


class RegionVaults:
    """Every region's vault and the keys that open it; not thread-safe.

    Args:
        declaration: where the vaults and keys are.
        clock: dates records.
    """

    def __init__(self, declaration: BackupDeclaration, clock: Clock) -> None:
        """Remember what is declared; nothing is opened."""
        self.declaration = declaration
        self.clock = clock
        self._stores: dict[str, ObjectStore] = {}
        self._networks: dict[tuple[str, str], NetworkVault] = {}
        self._replicas: dict[tuple[str, str], NetworkVault] = {}

    def store(self, region: str) -> ObjectStore:
        """The object store of a region's vault.

        Raises:
            InvalidInputError: the region has no vault.
        """
        if region not in self._stores:
            self._stores[region] = open_store(self.declaration.location(region))
        return self._stores[region]

    def network(self, region: str, network_id: str) -> NetworkVault:
        """A network in a region's vault, opened with any key at hand.

        Raises:
            InvalidInputError: no such region or network is declared.
            NotFoundError: there is no vault yet, or it does not know the network.
            PermanentError: none of the keys opens it.
        """
        from resources.vault.network import open_network

        found = self._networks.get((region, network_id))
        if found is None:
            self.declaration.demand_network(network_id)
            found = open_network(
                self.store(region), network_id, self.keks(), self.clock, region=region
            )
            # A hold in a copy's log would make it diverge from the log that it is a copy of.
            found.read_only = region != self.declaration.home_region
            self._networks[region, network_id] = found
        return found

    def home(self, network_id: str) -> NetworkVault:
        """A network in the vault that is written."""
        return self.network(self.declaration.home_region, network_id)

    def replica(self, region: str, network_id: str) -> NetworkVault:
        """A region's copy of a network, opened with the home's keys: it may still be empty.

        Raises:
            InvalidInputError: no such region or network is declared.
            NotFoundError: the home has no vault yet, or it does not know the network.
            PermanentError: none of the keys opens the home's.
        """
        from resources.vault.network import NetworkVault

        home = self.home(network_id)
        if region == self.declaration.home_region:
            return home
        if (region, network_id) in self._replicas:
            return self._replicas[region, network_id]
        copy = NetworkVault(self.store(region), home.keys, self.clock, home.epoch, region)
        copy.read_only = True
        self._replicas[region, network_id] = copy
        return copy

    def keks(self) -> list[KeyWrapper]:
        """The wrapping keys that are at hand; one that is kept elsewhere is left out.

        Raises:
            NotFoundError: none is.
            InvalidInputError: one holds something that is no key.
        """
        absent, found = [], []
        for source in self.declaration.keys:
            try:
                found.append(read_wrapping_key(source))
            except NotFoundError as error:
                absent.append(str(error))
        if not found:
            raise NotFoundError(
                f"no wrapping key is at hand: {'; '.join(absent)}",
                hint="Put back one of the keys that [wrapping_keys] names.",
            )
        return found

    def prepare(self) -> list[Path]:
        """Create what is missing: key files, the home's vault, a data key for each network.

        Safe to repeat; committed key by key (see `create_data_key`). A network that cannot be
        prepared keeps no other from it. A wrapping key that is kept elsewhere is missed only when
        a new network has to be wrapped with it.

        Returns:
            The key files that were made: whoever loses them all loses every backup.

        Raises:
            PermanentError: a store fails its self-test, the shredding of a network was not
                completed, or backups exist whose keys are gone.
        """
        from resources.vault.keys.key_store import create_vault

        home = self.declaration.home_region
        made: list[Path] = []
        if not self._holds_backups(home):
            made = [Path(one.file) for one in self.declaration.keys if create_key_file(one)]
        self.keks()
        create_vault(self.store(home), self.clock.now())
        refused = [self._prepare_network(one) for one in self.declaration.vault_networks]
        for error in refused:
            if error is not None:
                raise error
        return made

    def _prepare_network(self, network_id: str) -> PermanentError | None:
        """Give a network its data key; what keeps it from having one."""
        from resources.vault.keys.key_store import create_data_key
        from resources.vault.keys.key_wraps import list_wraps
        from resources.vault.keys.shredding import read_shred_note

        store = self.store(self.declaration.home_region)
        wraps = list_wraps(store, network_id).values()
        if not wraps and read_shred_note(store, network_id) is not None:
            return None  # nothing of it is left to be prepared; jobs leave it out, and say so
        if wraps and all(len(one) >= len(self.declaration.keys) for one in wraps):
            return None
        try:
            keks = [read_wrapping_key(source) for source in self.declaration.keys]
            create_data_key(store, network_id, keks)
        except PermanentError as error:
            return error
        return None

    def _holds_backups(self, region: str) -> bool:
        """Whether a vault has keys already: a missing key file is then a loss, not a beginning."""
        return bool(self.store(region).list_objects("keys/"))


def open_store(location: VaultLocation) -> ObjectStore:
    """The object store at a location; nothing is asked of it yet."""
    if location.path:
        from resources.object_store.directory import DirectoryObjectStore

        return DirectoryObjectStore(Path(location.path))
    from resources.object_store.s3 import S3ObjectStore, open_s3_client

    client = open_s3_client(location.aws_region or None, location.endpoint_url or None)
    return S3ObjectStore(
        client, location.bucket, location.prefix, lock_days=location.lock_days or None
    )
