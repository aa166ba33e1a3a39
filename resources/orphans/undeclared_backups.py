"""Snapshots, volumes and indexes in vaults, of networks that are not declared any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from fleet.cleanup import LeftKind, Orphan
from fleet.ports.object_store import ListedObject
from resources.vault.region_vaults import RegionVaults

_FOLDERS = ("journal", "manifests", "packs")
"""Where a network's data lie, `<folder>/<network>/...` (`fleet.vault_keyspace`)."""


class UndeclaredBackups:
    """Compares the folders of each region's vault with the declared networks.

    Every listing of the three folders is read once, a page at a time by the store.
    """

    def __init__(self, vaults: RegionVaults) -> None:
        """Remember the vaults."""
        self._vaults = vaults

    def orphans(self) -> Iterator[Orphan]:
        """See the port; regions in the order of their declaration."""
        declared = set(self._vaults.declaration.vault_networks)
        for region in self._vaults.declaration.regions:
            found: dict[str, list[ListedObject]] = defaultdict(list)
            store = self._vaults.store(region)
            for folder in _FOLDERS:
                for one in store.list_objects(f"{folder}/"):
                    network_id = one.key.split("/")[1]
                    if network_id not in declared:
                        found[network_id].append(one)
            for network_id in sorted(found):
                yield _orphan(network_id, region, found[network_id])


def _orphan(network_id: str, region: str, objects: list[ListedObject]) -> Orphan:
    newest: datetime = max(one.modified_at for one in objects)
    size = sum(one.size_bytes for one in objects)
    detail = f"{len(objects)} objects of network {network_id}, which is not declared"
    return Orphan(LeftKind.UNDECLARED_BACKUPS.value, network_id, region, size, newest, detail)
