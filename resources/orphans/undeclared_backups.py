"""Snapshots, volumes and indexes in vaults, of networks that are not declared any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from fleet.cleanup import LeftKind, Orphan
from fleet.ports.object_store import ListedObject, ObjectStore
from resources.vault.region_vaults import RegionVaults

_FOLDERS = ("journal", "manifests", "packs")
"""Where a network's data lie, `<folder>/<network>/...` (`fleet.vault_keyspace`)."""


class UndeclaredBackups:
    """Compares the networks that each region's vault knows with the declared ones.

    Names come from folders that hold a few objects for each network: its keys, the claims to write,
    the notes of what was shredded. Data are listed of undeclared networks only, so that a vault of
    millions of objects costs three requests.
    """

    def __init__(self, vaults: RegionVaults) -> None:
        """Remember the vaults."""
        self._vaults = vaults
        self.kind = LeftKind.UNDECLARED_BACKUPS

    def orphans(self) -> Iterator[Orphan]:
        """See the port; regions in the order of their declaration, then by name."""
        declared = set(self._vaults.declaration.vault_networks)
        for region in self._vaults.declaration.regions:
            store = self._vaults.store(region)
            for network_id in sorted(_known_networks(store) - declared):
                objects = [
                    one
                    for folder in _FOLDERS
                    for one in store.list_objects(f"{folder}/{network_id}/")
                ]
                if objects:
                    yield _orphan(network_id, region, objects)


def _known_networks(store: ObjectStore) -> set[str]:
    keys = {one.key.split("/")[1].rpartition(".")[0] for one in store.list_objects("keys/")}
    claims = {one.key.split("/")[1] for one in store.list_objects("claims/")}
    notes = {one.key.split("/")[1].removesuffix(".json") for one in store.list_objects("shred/")}
    return {name for name in keys | claims | notes if name}


def _orphan(network_id: str, region: str, objects: list[ListedObject]) -> Orphan:
    newest: datetime = max(one.modified_at for one in objects)
    size = sum(one.size_bytes for one in objects)
    detail = f"{len(objects)} objects of network {network_id}, which is not declared"
    return Orphan(LeftKind.UNDECLARED_BACKUPS.value, network_id, region, size, newest, detail)
