"""Exchanging keys of a network: its data key for new objects, or the keys that wrap its data keys.

No data is touched by either. A new data key seals nothing before enough wraps of it stand; old
wraps are deleted only after the new ones have been opened. Killed at any step, the same call
completes it. Wraps are per region: exchange key-encryption keys in the writing region first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

from fleet.errors import InvalidInputError, NotFoundError, PermanentError
from fleet.pack_keys import KEY_BYTES, PackKeys
from fleet.ports.key_wrapper import KeyWrapper
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.vault_keys import WRAPS_MIN, require_keks
from fleet.vault_keyspace import dek_id_of
from fleet.vault_log import EvidenceRecord, LogRecord, VaultState
from fleet.vault_pack import HEADER_MAX_BYTES, read_salt
from resources.vault.keys.key_store import load_data_key
from resources.vault.keys.key_wraps import (
    Wraps,
    list_wraps,
    make_data_key,
    noted_time,
    open_data_key,
    prove_wrap,
    seal_wrap,
    wrap_object_key,
)
from resources.vault.keys.shredding import demand_unshredded
from resources.vault.network import NetworkVault
from resources.vault.retention.removal import append_next

_DATA_KEYS_MAX = 9999
"""Four digits number them."""
_HEADER_READERS = 8


class DataKeyStatus(NamedTuple):
    """One data key of a network."""

    dek_id: str
    kek_ids: tuple[str, ...]
    """Whose wraps stand."""
    created_at: datetime
    """As its wraps note it, else the store's date of the oldest wrap that stands."""
    packs: int
    """Packs that it seals."""
    is_usable: bool
    """Whether enough wraps stand; else its rotation is to be completed."""


class KekRotation(NamedTuple):
    """What exchanging key-encryption keys did."""

    data_keys: int
    wraps_added: int
    wraps_deleted: int


def rotate_data_key(vault: NetworkVault, keks: Sequence[KeyWrapper]) -> PackKeys:
    """Make a data key that seals all new packs and manifests of a network.

    Committed by its second wrap: a key with fewer wraps seals nothing, and the next call completes
    it. The handle seals with it at once, other processes when they open the network again; both
    are right. Rotates from what this handle knows: when somebody else (or a killed try of ours)
    has rotated since it was opened, that key is taken over and no further one is made.

    Args:
        vault: the opened network.
        keks: at least two; all of them wrap the new key.

    Returns:
        The network's keys, which the handle now uses.

    Raises:
        InvalidInputError: fewer than two different key-encryption keys; nothing was written.
        PermanentError: shredded meanwhile, a key may not be used, or an unfinished data key does
            not open with the given keys.
    """
    require_keks(keks)
    store, network_id = vault.store, vault.network_id
    demand_unshredded(store, network_id)
    known = vault.keys.newest.dek_id
    newest = _next_dek_id(store, network_id, known, keks)
    fresh = PackKeys(os.urandom(KEY_BYTES), newest, network_id)
    make_data_key(store, fresh, keks, vault.clock.now())
    vault.use_keys(load_data_key(store, network_id, keks))
    _note(vault, f"data key {newest} seals new packs")
    return vault.keys


def rotate_kek(
    store: ObjectStore,
    network_id: str,
    keks: Sequence[KeyWrapper],
    *,
    add: Sequence[KeyWrapper] = (),
    remove: Sequence[str] = (),
) -> KekRotation:
    """Exchange key-encryption keys of a network in one region's store.

    First every data key gets its new wraps, then each is opened and compared, and only then are
    old wraps deleted. Killed at any step and called again, it completes.

    Args:
        store: of one region.
        network_id: whose data keys.
        keks: open the data keys now; those in `add` are tried too, so that a killed try goes on.
        add: wrap every data key from now on.
        remove: ids whose wraps go.

    Raises:
        InvalidInputError: nothing to do, or an id is both added and removed.
        NotFoundError: the network has no data key here.
        PermanentError: too few wraps would remain, or a data key or new wrap does not open; no
            wrap was deleted.
    """
    _demand_exchange(add, remove)
    demand_unshredded(store, network_id)
    standing = list_wraps(store, network_id)
    if not standing:
        raise NotFoundError(
            f"network {network_id} has no data key in this vault",
            hint="Check the network's id; nothing was written.",
        )
    for dek_id, wraps in standing.items():
        _demand_enough(dek_id, wraps.keys() | {one.kek_id for one in add}, remove)
    added = sum(
        _add_wraps(store, network_id, dek_id, wraps, [*keks, *add], add)
        for dek_id, wraps in standing.items()
    )
    deleted = _delete_wraps(store, network_id, remove)
    return KekRotation(len(standing), added, deleted)


def key_status(store: ObjectStore, network_id: str) -> tuple[DataKeyStatus, ...]:
    """The data keys of a network, oldest first; needs no key.

    Costs a small request for each pack when there are several data keys, none for packs else.

    Raises:
        NotFoundError: the network has no data key here.
    """
    demand_unshredded(store, network_id)
    standing = list_wraps(store, network_id)
    if not standing:
        raise NotFoundError(f"network {network_id} has no data key in this vault")
    packs = store.list_objects(f"packs/{network_id}/")
    counts = {next(iter(standing)): len(packs)}
    if len(standing) > 1:
        counts = _count_packs(store, packs)
    return tuple(
        DataKeyStatus(
            dek_id,
            tuple(sorted(wraps)),
            noted_time(store, network_id, dek_id, wraps)
            or min(one.modified_at for one in wraps.values()),
            counts.get(dek_id, 0),
            len(wraps) >= WRAPS_MIN,
        )
        for dek_id, wraps in standing.items()
    )


def _next_dek_id(
    store: ObjectStore, network_id: str, known: str, keks: Sequence[KeyWrapper]
) -> str:
    """The data key to go over to: the newest that is there already, or a number never used.

    One with too few wraps that none of the keys opens has sealed nothing, and is given up.
    """
    standing = list_wraps(store, network_id)
    newest = max(standing, default=known)
    if newest == known:
        return dek_id_of(network_id, _number_of(newest) + 1)
    if len(standing[newest]) < WRAPS_MIN:
        try:
            open_data_key(store, network_id, newest, standing[newest], keks)
        except PermanentError:
            return dek_id_of(network_id, _number_of(newest) + 1)
    return newest


def _number_of(dek_id: str) -> int:
    number = int(dek_id.rpartition(".")[2])
    if number >= _DATA_KEYS_MAX:
        raise PermanentError(
            f"data key {dek_id} is the last that can be numbered",
            hint="Back the network up under a new network id.",
        )
    return number


def _note(vault: NetworkVault, text: str) -> None:
    """Record in the log, once, that a data key came into use."""

    def decide(_: VaultState) -> LogRecord | None:
        record = EvidenceRecord("note", text)
        return None if any(one.record == record for one in vault.log.records) else record

    append_next(vault, decide)


def _demand_exchange(add: Sequence[KeyWrapper], remove: Sequence[str]) -> None:
    ids = [one.kek_id for one in add]
    both = set(ids) & set(remove)
    if both or len(set(ids)) < len(ids) or not (add or remove):
        raise InvalidInputError(
            "keys to add and to remove",
            f"add {', '.join(ids) or 'none'}; remove {', '.join(remove) or 'none'}",
            "different ids, at least one",
            hint="A key that replaces another gets an id of its own, such as region-2.",
        )


def _demand_enough(dek_id: str, kek_ids: set[str], remove: Sequence[str]) -> None:
    remaining = kek_ids - set(remove)
    if len(remaining) < WRAPS_MIN:
        raise PermanentError(
            f"data key {dek_id}: without {', '.join(remove)} only "
            f"{', '.join(sorted(remaining)) or 'none'} would wrap it; at least {WRAPS_MIN} must",
            hint="Add another key in the same call; nothing was written.",
        )


def _add_wraps(
    store: ObjectStore,
    network_id: str,
    dek_id: str,
    wraps: Wraps,
    keks: Sequence[KeyWrapper],
    add: Sequence[KeyWrapper],
) -> int:
    if not add:
        return 0
    keys = open_data_key(store, network_id, dek_id, wraps, keks)
    made_at = noted_time(store, network_id, dek_id, wraps)
    new = [seal_wrap(keys, kek, made_at) for kek in add if kek.kek_id not in wraps]
    added = sum(store.create(*one) for one in new)
    for kek in add:
        prove_wrap(store, keys, kek)
    return added


def _delete_wraps(store: ObjectStore, network_id: str, remove: Sequence[str]) -> int:
    """Delete old wraps of every data key, looking once more at what would remain of each."""
    doomed = []
    for dek_id, wraps in list_wraps(store, network_id).items():
        _demand_enough(dek_id, set(wraps), remove)
        doomed += [wrap_object_key(dek_id, one) for one in remove if one in wraps]
    store.delete(doomed)
    return len(doomed)


def _count_packs(store: ObjectStore, packs: Sequence[ListedObject]) -> dict[str, int]:
    """How many packs name each data key in their header."""

    def named(listed: ListedObject) -> str:
        try:
            header = store.get(listed.key, 0, HEADER_MAX_BYTES)
        except NotFoundError:
            return ""  # swept since it was listed
        return read_salt(header, listed.key)[0]

    counts: dict[str, int] = {}
    with ThreadPoolExecutor(_HEADER_READERS, thread_name_prefix="vault-header") as pool:
        for dek_id in pool.map(named, packs):
            counts[dek_id] = counts.get(dek_id, 0) + 1
    return counts
