"""The wraps of data keys in an object store: listed, made, proven and opened one by one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from fleet.errors import (
    CorruptObjectError,
    NotFoundError,
    PermanentError,
    StateroomError,
    TransientError,
)
from fleet.names import validate_name
from fleet.pack_keys import PackKeys
from fleet.ports.key_wrapper import KeyWrapper, WrappedKey
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.vault_keys import NONCE_BYTES, decode_wrap, encode_wrap
from fleet.vault_keyspace import wrap_key_prefix

Wraps = Mapping[str, ListedObject]
"""The wraps of one data key, by id of the key-encryption key."""


def list_wraps(store: ObjectStore, network_id: str) -> dict[str, dict[str, ListedObject]]:
    """All wraps of a network, by data key (oldest first) and key-encryption key; one listing."""
    prefix = f"keys/{validate_name('network_id', network_id)}."
    pattern = re.compile(rf"keys/({re.escape(network_id)}\.\d{{4}})/([^/]+)\.json", re.ASCII)
    found: dict[str, dict[str, ListedObject]] = {}
    for listed in store.list_objects(prefix):
        match = pattern.fullmatch(listed.key)
        if match:
            found.setdefault(match[1], {})[match[2]] = listed
    return found


def wrap_object_key(dek_id: str, kek_id: str) -> str:
    """Key of one wrap."""
    return f"{wrap_key_prefix(dek_id)}{kek_id}.json"


def seal_wrap(keys: PackKeys, kek: KeyWrapper, created_at: datetime | None) -> tuple[str, bytes]:
    """Key and bytes of a new wrap of a data key."""
    wrap = kek.wrap(keys.data_key, keys.dek_id, keys.network_id, os.urandom(NONCE_BYTES))
    data = encode_wrap(wrap._replace(created_at=created_at))
    return wrap_object_key(keys.dek_id, kek.kek_id), data


def make_data_key(
    store: ObjectStore, fresh: PackKeys, keks: Sequence[KeyWrapper], at: datetime | None
) -> PackKeys:
    """Store a fresh data key under all keys, or complete the one that was there first.

    Committed by the wrap of the key whose id sorts first: two makers agree on one. Killed behind
    it, the same call adds the wraps that are missing.

    Raises:
        PermanentError: the data key that is there does not open, or a wrap does not give it back.
    """
    ordered = sorted(keks, key=lambda kek: kek.kek_id)
    standing = list_wraps(store, fresh.network_id).get(fresh.dek_id)
    if not standing:
        # All are wrapped before the first is stored: a key that may not be used leaves no trace.
        wraps = [seal_wrap(fresh, kek, at) for kek in ordered]
        if store.create(*wraps[0]):
            for wrap in wraps[1:]:
                store.create(*wrap)
        standing = list_wraps(store, fresh.network_id).get(fresh.dek_id, {})
    keys = open_data_key(store, fresh.network_id, fresh.dek_id, standing, ordered)
    made_at = noted_time(store, fresh.network_id, fresh.dek_id, standing)
    for kek in ordered:
        if kek.kek_id not in standing:
            store.create(*seal_wrap(keys, kek, made_at))
        prove_wrap(store, keys, kek)
    return keys


def prove_wrap(store: ObjectStore, keys: PackKeys, kek: KeyWrapper) -> None:
    """Demand that the stored wrap opens to this very data key.

    Raises:
        PermanentError: it does not open, or holds another data key.
    """
    wrap = read_wrap(store, keys.dek_id, keys.network_id, kek.kek_id)
    if kek.unwrap(wrap) != keys.data_key:
        raise PermanentError(
            f"key file {wrap_object_key(keys.dek_id, kek.kek_id)} holds another data key",
            hint="Two vaults were mixed up; do not write to this one.",
        )


def noted_time(
    store: ObjectStore, network_id: str, dek_id: str, wraps: Iterable[str]
) -> datetime | None:
    """When a data key was made, as the first readable of its wraps notes it; None for no note."""
    for kek_id in sorted(wraps):
        try:
            made_at = read_wrap(store, dek_id, network_id, kek_id).created_at
        except (CorruptObjectError, NotFoundError):
            continue  # the next wrap notes the same
        if made_at is not None:
            return made_at
    return None


def read_wrap(store: ObjectStore, dek_id: str, network_id: str, kek_id: str) -> WrappedKey:
    """One wrap, as its place in the store demands it.

    Raises:
        NotFoundError: there is none.
        CorruptObjectError: it is damaged, or was copied from another place.
    """
    key = wrap_object_key(dek_id, kek_id)
    wrap = decode_wrap(store.get(key), key)
    if (wrap.dek_id, wrap.kek_id, wrap.network_id) != (dek_id, kek_id, network_id):
        raise CorruptObjectError(f"key file {key} belongs elsewhere")
    return wrap


def open_data_key(
    store: ObjectStore,
    network_id: str,
    dek_id: str,
    wraps: Iterable[str],
    keks: Sequence[KeyWrapper],
) -> PackKeys:
    """Open a data key with the first of the given keys that has a wrap and opens it.

    Raises:
        PermanentError: none does; the message says which wraps there are and why each failed.
        TransientError: none does now, and a key service did not answer.
    """
    names = sorted(wraps)
    refusals: list[StateroomError] = []
    for kek in keks:
        if kek.kek_id not in names:
            continue
        try:
            wrap = read_wrap(store, dek_id, network_id, kek.kek_id)
            return PackKeys(kek.unwrap(wrap), dek_id, network_id)
        except StateroomError as error:
            refusals.append(error)
    given = ", ".join(kek.kek_id for kek in keks) or "none"
    why = "; ".join(str(one) for one in refusals) or "none of the given keys has a wrap"
    is_transient = any(isinstance(one, TransientError) for one in refusals)
    raise (TransientError if is_transient else PermanentError)(
        f"network {network_id}: no key opens its data key {dek_id}; "
        f"wrapped by {', '.join(names) or 'none'}; given {given}: {why}",
        hint="Give one of the keys that wrap it; nothing was written.",
    ) from (refusals[0] if refusals else None)
