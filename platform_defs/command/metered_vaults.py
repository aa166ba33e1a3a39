"""The vaults of all regions, with what is read of them reported to whoever watches."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.backup_declaration import BackupDeclaration
from fleet.ports.clock import Clock
from fleet.ports.progress import Progress
from resources.object_store.metered import MeteredStore
from resources.vault.region_vaults import RegionVaults


class MeteredVaults(RegionVaults):
    """As `RegionVaults`; each region has a bar of its own.

    Args:
        declaration: where the vaults and keys are.
        clock: dates records.
        progress: who watches.
    """

    def __init__(self, declaration: BackupDeclaration, clock: Clock, progress: Progress) -> None:
        """Nothing is opened."""
        super().__init__(declaration, clock)
        self._progress = progress

    def store(self, region: str) -> MeteredStore:
        """See `RegionVaults.store`."""
        found = super().store(region)
        if not isinstance(found, MeteredStore):
            found = self._stores[region] = MeteredStore(found, self._progress, region)
        return found

    def expect_all(self, regions: Sequence[str], networks: Sequence[str]) -> None:
        """Announce that every stored byte of some copies will be read."""
        for region in regions:
            store = self.store(region)
            folders = [f"{kind}/{one}/" for one in networks for kind in ("packs", "manifests")]
            listed = [one.size_bytes for folder in folders for one in store.list_objects(folder)]
            store.expect(sum(listed))
