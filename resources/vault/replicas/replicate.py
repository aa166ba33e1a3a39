"""Copying a network to another region's vault: a replica is a valid prefix at every moment.

Record by record in order: first whatever the record names, checked against its hash, then the
record itself; last the checkpoints that are due. Killed anywhere and run again, it goes on where it
stopped. Nothing is re-encrypted.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from fleet.errors import (
    CorruptObjectError,
    FencedError,
    NotFoundError,
    PermanentError,
    StoreUnavailableError,
)
from fleet.ports.object_store import ObjectStore
from fleet.vault_keyspace import VAULT_KEY, log_key, parse_place
from fleet.vault_log import MapRecord, SnapshotRecord
from fleet.vault_records import StoredRecord
from resources.vault.journal.journal_upkeep import copy_segments
from resources.vault.keys.key_wraps import list_wraps
from resources.vault.keys.shredding import demand_unshredded
from resources.vault.network import NetworkVault
from resources.vault.packs.packing import create_object


class ReplicationResult(NamedTuple):
    """What was copied."""

    records: int
    objects: int
    size_bytes: int
    segments: int = 0
    """Of the journal."""


def replicate(source: NetworkVault, target: NetworkVault) -> ReplicationResult:
    """Bring a replica up to the source's head.

    A pack that the source has swept already is passed over; the gc record that condemned it
    follows in the same run.

    Raises:
        FencedError: the target is of a higher epoch: its region was promoted.
        PermanentError: the two are different vaults, the replica has records of its own, or the
            network was shredded in one of them.
        CorruptObjectError: a source object does not match its name; the replica stays a valid
            prefix, without the record that needs it.
    """
    # The log before the keys: a data key has its wraps before a record can need it.
    state = source.log.refresh()
    _copy_identity(source, target)
    target.log.refresh()
    records = source.log.records
    common = _common_records(source, target)
    places = {parse_place(one.key, one.size_bytes).sha256: one.key for one in source.list_packs()}
    present = {parse_place(one.key, 0).sha256 for one in target.list_packs()}
    copied = objects = size_bytes = 0
    for stored in records[common:]:
        for name in sorted(_named(stored) - present):
            if name not in places and name in state.condemned:
                continue
            size_bytes += _copy_object(source.store, target.store, places, name)
            present.add(name)
            objects += 1
        _copy_record(source, target, stored)
        copied += 1
    target.log.refresh()
    journal = copy_segments(source, target)
    # Made from the replica's own records, behind them: a source's checkpoint is not believed.
    target.log.write_checkpoints()
    return ReplicationResult(copied, objects, size_bytes + journal.size_bytes, journal.segments)


def _copy_identity(source: NetworkVault, target: NetworkVault) -> None:
    """Copy vault.json and the wraps that are missing; a region's own wraps are left alone."""
    for store in (source.store, target.store):
        demand_unshredded(store, source.network_id)
    _copy_vault_identity(source.store, target.store)
    held = list_wraps(target.store, source.network_id)
    for dek_id, wraps in list_wraps(source.store, source.network_id).items():
        for kek_id, listed in wraps.items():
            if kek_id not in held.get(dek_id, {}):
                create_object(target.store, listed.key, _read_twice(source.store, listed.key))


def _copy_vault_identity(source: ObjectStore, target: ObjectStore) -> None:
    """Copy vault.json where there is none; readings of both stores that agree prove each other."""
    try:
        held = target.get(VAULT_KEY)
    except NotFoundError:
        create_object(target, VAULT_KEY, _read_twice(source, VAULT_KEY))
        held = target.get(VAULT_KEY)
    if held == source.get(VAULT_KEY):
        return
    if _read_twice(target, VAULT_KEY) != _read_twice(source, VAULT_KEY):
        raise PermanentError(
            "the replica's store holds another vault", hint="Give the replica an empty store."
        )


def _read_twice(store: ObjectStore, key: str) -> bytes:
    """The bytes of an object that no hash proves: two readings that agree.

    A bit that flips on the way would otherwise stand in the replica for good.
    """
    data = store.get(key)
    if store.get(key) != data:
        raise StoreUnavailableError(
            f"two readings of {key} differ", hint="Replicate again; if it stays, look at the store."
        )
    return data


def _common_records(source: NetworkVault, target: NetworkVault) -> int:
    """How many records the two have in common; the target may have more under an older epoch.

    That happens to a region that wrote until another one was promoted: what it had not yet given
    away stays in its vault as a branch.
    """
    ours, theirs = source.log.records, target.log.records
    pairs = zip(ours, theirs, strict=False)
    common = next((n for n, (a, b) in enumerate(pairs) if a.sha256 != b.sha256), None)
    if common is None:
        common = min(len(ours), len(theirs))
    if common == len(theirs):
        return common
    if target.log.epoch > source.log.epoch:
        raise FencedError(
            f"network {source.network_id}: the vault to copy to is of epoch {target.log.epoch}, "
            f"written by region {target.log.owner}; this one is of epoch {source.log.epoch}",
            hint="This region is no longer the writer: copy in the other direction.",
        )
    if common < len(ours) and theirs[common].position.epoch < ours[common].position.epoch:
        return common
    raise PermanentError(
        f"network {target.network_id}: the replica's log is no prefix of the source's; "
        f"they differ from record {common + 1} on",
        hint="One lost its newest records, or was written to by another region; compare heads.",
    )


def _named(stored: StoredRecord) -> frozenset[str]:
    record = stored.record
    if isinstance(record, MapRecord):
        return frozenset({record.new})
    return record.packs if isinstance(record, SnapshotRecord) else frozenset()


def _copy_object(
    source: ObjectStore, target: ObjectStore, places: dict[str, str], name: str
) -> int:
    key = places.get(name)
    if key is None:
        raise CorruptObjectError(
            f"pack {name} is missing in the source", hint="Heal the source first."
        )
    data = source.get(key)
    if hashlib.sha256(data).hexdigest() != name:
        raise CorruptObjectError(
            f"object {key} does not match its name", hint="Heal the source first."
        )
    create_object(target, key, data)
    return len(data)


def _copy_record(source: NetworkVault, target: NetworkVault, stored: StoredRecord) -> None:
    key = log_key(source.network_id, stored.position.epoch, stored.position.seq)
    data = source.store.get(key)
    if hashlib.sha256(data).hexdigest() != stored.sha256:
        raise CorruptObjectError(f"log record {key} changed while it was copied")
    create_object(target.store, key, data)
    if target.store.get(key) != data:
        raise PermanentError(f"log record {key}: the replica holds another one")
