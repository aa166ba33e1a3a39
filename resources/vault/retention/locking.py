"""Locking what kept snapshots read for as long as their class is kept (guard G11).

With a snapshot everything is locked that it needs to be read: its packs and manifests, the log up
to its record, the wraps of all data keys and `vault.json`. A lock on packs alone would be worth
nothing: who deletes the wraps has deleted the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.errors import CorruptObjectError
from fleet.retention_lock import LockExtension, merge_locks
from fleet.vault_keyspace import VAULT_KEY, log_key, parse_place
from fleet.vault_log import SnapshotRecord
from resources.vault.keys.key_wraps import list_wraps
from resources.vault.network import NetworkVault


class LockResult(NamedTuple):
    """What an extension did."""

    snapshots: int
    objects: int
    """Objects that the snapshots read, each counted once."""
    extended: int
    """Locks that were extended; the others lasted long enough already."""
    until: datetime | None
    """The latest of the moments; None when there was nothing to lock."""


def extend_snapshot_locks(vault: NetworkVault, extensions: Sequence[LockExtension]) -> LockResult:
    """Extend the locks of what snapshots read; killed anywhere, it is run again.

    Costs one or two requests for each object: run it when a week, month or year has ended.

    Raises:
        PermanentError: the store has no locks.
        NotFoundError: a snapshot is not in the log, or an object is missing.
        CorruptObjectError: the store lacks a pack that a snapshot names.
    """
    if not extensions:
        return LockResult(0, 0, 0, None)
    vault.log.refresh()
    places = {parse_place(one.key, 0).sha256: one.key for one in vault.list_packs()}
    shared = [VAULT_KEY]
    shared += [
        one.key
        for wraps in list_wraps(vault.store, vault.network_id).values()
        for one in wraps.values()
    ]
    objects = {
        one.snapshot_id: _objects(vault, one.snapshot_id, places) + shared for one in extensions
    }
    merged = merge_locks(extensions, objects)
    extended = sum(vault.store.extend_lock(keys, until) for until, keys in merged.items())
    return LockResult(len(objects), sum(map(len, merged.values())), extended, max(merged))


def _objects(vault: NetworkVault, snapshot_id: str, places: dict[str, str]) -> list[str]:
    """Packs, manifests and log records that a snapshot needs."""
    stored = vault.snapshot(snapshot_id)
    record = stored.record
    named = record.packs if isinstance(record, SnapshotRecord) else frozenset[str]()
    missing = named - places.keys()
    if missing:
        raise CorruptObjectError(
            f"snapshot {snapshot_id} names pack {min(missing)}, which the store lacks",
            hint="Heal this region first, then lock.",
        )
    records = vault.log.records[: stored.position.seq]
    log = [log_key(vault.network_id, one.position.epoch, one.position.seq) for one in records]
    return [places[one] for one in sorted(named)] + log
