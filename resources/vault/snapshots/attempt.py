"""One attempt to write a snapshot: its base, its current rows, what it has created, its commit.

The steps are those of `docs/formats/backup.md`; which rows change is not decided here. Everything
that an attempt creates lies under its own snapshot id and means nothing before its log record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from fleet.errors import CorruptObjectError, FencedError, NotFoundError, StoreUnavailableError
from fleet.vault_keyspace import manifest_key
from fleet.vault_log import SnapshotRecord, VaultState, decide_commit
from resources.vault.network import NetworkVault, chain_of
from resources.vault.packs.arrow_columns import strings
from resources.vault.packs.blob_index import BlobIndex
from resources.vault.packs.manifest import (
    Manifest,
    ManifestRef,
    arrow,
    empty_manifest,
    kernels,
    packs_of,
    sort_rows,
    without_items,
)
from resources.vault.packs.manifest_codec import encode_manifest
from resources.vault.packs.pack_maps import resolve_moves
from resources.vault.packs.packing import PackWriter, create_object
from resources.vault.packs.process_memory import map_large_buffers
from resources.vault.verification.proof import StoredObjects

_COMMIT_TRIES = 20


class Attempt:
    """One attempt under one snapshot id.

    Args:
        vault: the opened network.
        workers: threads that compress and seal; None for one per core.
        refused: packs that must not be referenced: distrusted, later also condemned ones.
    """

    def __init__(self, vault: NetworkVault, workers: int | None, refused: frozenset[str]) -> None:
        """Nothing is read or written yet."""
        map_large_buffers()
        self.vault = vault
        self.workers = workers
        self.refused = refused
        self.snapshot_id = vault.new_id()
        self.own: dict[str, str] = {}
        """Key by hash of every object this attempt has created."""
        self.sizes: dict[str, int] = {}
        self.base_id = self.base_fault = ""
        self.base_chain: tuple[ManifestRef, ...] = ()
        self.base_extra: Mapping[str, Any] = {}
        self.base_epoch = 0
        self.chain: tuple[ManifestRef, ...] = ()
        self.current: Manifest = empty_manifest()
        """What the snapshot holds, as far as the attempt has come."""
        self.bytes_logical = 0

    def read_base(self, state: VaultState) -> Manifest:
        """The newest live snapshot that can be read; without one everything is stored anew."""
        for newest in reversed(list(state.live)):
            try:
                stored = self.vault.snapshot(newest)
                chain = chain_of(stored)
                named = self.vault.read_manifest(stored)
                self.current = resolve_moves(self.vault.store, self.vault.keys, named)
            except (CorruptObjectError, NotFoundError) as error:
                self.base_fault = self.base_fault or str(error)
                continue
            self.base_id, self.base_extra = newest, stored.extra
            self.base_epoch = stored.position.epoch
            # Rows that a repack moved are written anew: a chain names the packs before the moves.
            self.base_chain = chain if self.current is named else ()
            break
        return self.current

    def writer(self, kind: str) -> PackWriter:
        """What stores blobs of a row kind; `adopt` it when it has finished."""
        vault = self.vault
        known = BlobIndex(self.current.table, kind, self.refused).find
        return PackWriter(vault.store, vault.keys, self.snapshot_id, known, self.workers, kind)

    def adopt(self, writer: PackWriter) -> None:
        """Take over the packs that a writer has stored."""
        network_id = self.vault.network_id
        self.bytes_logical += writer.bytes_logical
        for sha256, pack in writer.packs.items():
            self.own[sha256] = f"packs/{network_id}/{pack.owner}/{sha256}.pack"
            self.sizes[sha256] = pack.size_bytes
        self.current = self.current._replace(packs={**self.current.packs, **writer.packs})

    def replace(self, fresh: Any, removed: Any) -> None:
        """Put fresh rows into the current table, and take removed items out of it.

        Args:
            fresh: rows; whatever stood under their item ids goes.
            removed: item ids, as an Arrow array.
        """
        pa = arrow()
        if not len(fresh) and not len(removed):
            return
        table = fresh
        if len(self.current.table):
            ids = pa.concat_arrays([fresh["item_id"].unique(), removed])
            kept = without_items(self.current.table, ids)
            table = pa.concat_tables([kept, fresh]) if len(kept) else fresh
        self.current = Manifest(table, packs_of(table, self.current.packs))

    def lost_rows(self) -> Any:
        """Rows of the current table that lie in refused packs."""
        table = self.current.table
        lost = kernels().is_in(table["pack"], value_set=strings(sorted(self.refused)))
        return table.filter(lost)

    def create_manifest(self, rows: Any | None, base: tuple[ManifestRef, ...]) -> None:
        """Create a manifest: of these rows as a delta on `base`, or in full of all that is current.

        Args:
            rows: of the delta; None for a full manifest.
            base: of the delta; empty for a full manifest.
        """
        vault = self.vault
        if rows is None:
            # Sorted in the place of what was there: a network's rows are held once.
            ordered = sort_rows(self._take_table())
            manifest = self.current = self.current._replace(table=ordered)
        else:
            manifest = Manifest(sort_rows(rows), packs_of(rows, self.current.packs))
        rows = manifest.table
        sealed = encode_manifest(vault.keys, manifest, base[-1].sha256 if base else None)
        key = manifest_key(vault.network_id, self.snapshot_id, sealed.sha256)
        create_object(vault.store, key, sealed.data)
        self.own[sealed.sha256], self.sizes[sealed.sha256] = key, len(sealed.data)
        ref = ManifestRef(self.snapshot_id, sealed.sha256, len(sealed.data), len(rows))
        self.chain = (*base, ref)

    def _take_table(self) -> Any:
        table = self.current.table
        self.current = self.current._replace(table=None)
        return table

    def commit(
        self,
        taken_at: datetime,
        extra: Callable[[], Mapping[str, Any]],
        rescue: Callable[[], None],
    ) -> None:
        """Create the next log record, deciding anew whenever somebody else was faster.

        Args:
            taken_at: moment of the cut.
            extra: what the record holds for people; asked anew for each try.
            rescue: stores again what the refused packs held.
        """
        log, mine = self.vault.log, self.snapshot_id
        unanswered: StoreUnavailableError | None = None
        for _ in range(_COMMIT_TRIES):
            state = log.refresh()
            if mine in state.live or mine in state.forgotten:
                return  # our own record: the answer to its creation was lost
            packs = frozenset(packs_of(self.current.table, self.current.packs))
            packs |= {one.sha256 for one in self.chain}
            verdict = decide_commit(state, mine, packs)
            if verdict.action == "abort":
                raise FencedError(verdict.reason, hint="Run the backup again.")
            if verdict.action == "rescue":
                self.refused |= verdict.packs
                rescue()
                continue
            try:
                record = SnapshotRecord(mine, taken_at, packs)
                if log.append(record, self.vault.clock.now(), extra()):
                    return
            except StoreUnavailableError as error:
                if unanswered is not None:
                    raise  # silent twice: what the log says then is for the next attempt
                unanswered = error
        raise StoreUnavailableError(
            f"snapshot {mine}: its log record could not be placed in {_COMMIT_TRIES} tries",
            hint="The log shows whether it was committed; running again is safe.",
        ) from unanswered

    @property
    def stored_objects(self) -> StoredObjects:
        """What V0 has to find."""
        return StoredObjects(self.snapshot_id, self.own, self.sizes)
