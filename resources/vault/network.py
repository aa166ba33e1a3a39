"""One network's part of a vault, opened: its keys, log and manifests under one handle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fleet.errors import CorruptObjectError, NotFoundError, PermanentError
from fleet.pack_keys import PackKeys
from fleet.ports.clock import Clock
from fleet.ports.key_wrapper import KeyWrapper
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.vault_keyspace import ULID_ENTROPY_BYTES, make_ulid
from fleet.vault_log import LogRecord, SnapshotRecord
from fleet.vault_records import StoredRecord
from resources.vault.keys.key_store import load_data_key, read_vault
from resources.vault.log.local_log import LocalLog
from resources.vault.log.log_store import VaultLog
from resources.vault.packs.manifest import Manifest, ManifestRef
from resources.vault.packs.manifest_store import ManifestStore
from resources.vault.packs.pack_maps import moves_after, with_moves
from resources.vault.packs.segments import SegmentStore


class NetworkVault:
    """What every verb needs; not thread-safe, and cheap to open.

    Args:
        store: where the vault lies.
        keys: of the network.
        clock: dates records; no decision about safety reads it.
        epoch: that the writer is opened under.
        region: whose copy this is; '' where nobody asks. It is needed to record evidence, and to
            write under an epoch that the region was promoted to.
    """

    def __init__(
        self, store: ObjectStore, keys: PackKeys, clock: Clock, epoch: int = 0, region: str = ""
    ) -> None:
        """Nothing is read before the first verb."""
        self.store = store
        self.keys = keys
        self.clock = clock
        self.epoch = epoch
        self.region = region
        self.network_id = keys.network_id
        self.log = VaultLog(store, keys.network_id, epoch, keys.data_key, region)
        self.manifests = ManifestStore(store, keys)
        self.journal = SegmentStore(store, keys)
        self.read_only = False
        """True for a replica: nothing may be appended to its log, not even a hold."""

    def afresh(self) -> NetworkVault:
        """The same vault without anything cached: it sees what is stored now."""
        return NetworkVault(self.store, self.keys, self.clock, self.epoch, self.region)

    def local_log(self, region: str = "") -> LocalLog:
        """The log of a region's copy (of this vault's own region by default), nothing read yet.

        Raises:
            InvalidInputError: the vault was opened without its region.
        """
        return LocalLog(self.store, self.network_id, region or self.region, self.keys.data_key)

    def logs(self) -> list[VaultLog | LocalLog]:
        """The network's log, and where the region is known its own, as this handle has them."""
        return [self.log, self.local_log()] if self.region else [self.log]

    def use_keys(self, keys: PackKeys) -> None:
        """Seal and open with these keys from now on; the network's first data key stays.

        Raises:
            PermanentError: they are of another network or vault.
        """
        if (keys.network_id, keys.data_key) != (self.network_id, self.keys.data_key):
            raise PermanentError(
                f"network {self.network_id}: these are the keys of another network or vault",
                hint="Open it anew; nothing was written.",
            )
        self.keys = keys
        self.manifests = ManifestStore(self.store, keys)
        self.journal = SegmentStore(self.store, keys)

    def new_id(self) -> str:
        """A fresh id for a snapshot attempt or a hold."""
        return make_ulid(self.clock.now(), os.urandom(ULID_ENTROPY_BYTES))

    def snapshot(self, snapshot_id: str) -> StoredRecord:
        """The record of a snapshot, live or not, as far as the log has been read.

        Raises:
            NotFoundError: the log has no such snapshot.
        """
        stored: StoredRecord
        for stored in reversed(self.log.records):
            record: LogRecord = stored.record
            if isinstance(record, SnapshotRecord) and record.snapshot_id == snapshot_id:
                return stored
        raise NotFoundError(
            f"network {self.network_id} has no snapshot {snapshot_id}",
            hint="`stateroom backups list` names them.",
        )

    def read_manifest(self, stored: StoredRecord) -> Manifest:
        """The rows of a snapshot; packs that were repacked since say where they are read now.

        Raises:
            NotFoundError: a manifest is missing.
            CorruptObjectError: one is damaged.
        """
        manifest = self.manifests.read(chain_of(stored))
        return with_moves(manifest, moves_after(self.log.records, stored.position.seq))

    def find_snapshot(self, at: datetime | None) -> StoredRecord:
        """The newest live snapshot taken at or before a moment (None: of all).

        Raises:
            NotFoundError: there is none; the message names the oldest.
        """
        live = self.log.refresh().live
        fitting = [one for one in live.values() if at is None or one.taken_at <= at]
        if not fitting:
            oldest = min((one.taken_at for one in live.values()), default=None)
            since = f"the oldest is of {oldest.isoformat()}" if oldest else "there is no backup yet"
            moment = "" if at is None else f" at or before {at.isoformat()}"
            raise NotFoundError(
                f"network {self.network_id} has no snapshot{moment}: {since}",
                hint="Choose a later moment, or another region's vault.",
            )
        order = {snapshot_id: number for number, snapshot_id in enumerate(live)}
        newest = max(fitting, key=lambda one: (one.taken_at, order[one.snapshot_id]))
        return self.snapshot(newest.snapshot_id)

    def list_packs(self) -> list[ListedObject]:
        """Every pack and manifest of the network."""
        folders = (f"{kind}/{self.network_id}/" for kind in ("packs", "manifests"))
        return [one for folder in folders for one in self.store.list_objects(folder)]


def open_network(
    store: ObjectStore,
    network_id: str,
    keks: Sequence[KeyWrapper],
    clock: Clock,
    epoch: int = 0,
    region: str = "",
) -> NetworkVault:
    """Open a network of an existing vault with any of its keys, and all its data keys.

    Raises:
        NotFoundError: there is no vault, or it does not know the network.
        PermanentError: none of the keys opens it, or it was shredded.
        TransientError: none of the keys opens it, and a key service did not answer.
    """
    read_vault(store)
    return NetworkVault(store, load_data_key(store, network_id, keks), clock, epoch, region)


def chain_of(stored: StoredRecord) -> tuple[ManifestRef, ...]:
    """The manifests of a snapshot, base first, as its authenticated record names them.

    Raises:
        CorruptObjectError: the record names none, or one that is not among its packs.
    """
    listed: Any = stored.extra.get("manifests")
    record = stored.record
    try:
        chain = tuple(ManifestRef(*one) for one in listed)
    except TypeError as error:
        raise CorruptObjectError(f"log record {stored.position.seq} names no manifest") from error
    packs = record.packs if isinstance(record, SnapshotRecord) else frozenset[str]()
    if not chain or not {one.sha256 for one in chain} <= packs:
        raise CorruptObjectError(f"log record {stored.position.seq} names no manifest of its own")
    return chain
