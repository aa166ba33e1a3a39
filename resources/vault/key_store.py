"""Keys in an object store: made once, loaded by any key at hand, rotated, shredded.

A data key is committed by its first wrap (that of the key-encryption key whose id sorts first);
two creators therefore agree on one. Killed behind it, the data key has fewer wraps than asked for:
`create_data_key` with the same keys completes them. A rotation is committed by the new wrap and is
complete when the old one is deleted; killed in between, both open the vault.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    SchemaMismatchError,
    StoreUnavailableError,
)
from fleet.names import validate_name
from fleet.ports.object_store import ObjectStore
from fleet.vault_keys import (
    NONCE_BYTES,
    WRAPS_MIN,
    KeyEncryptionKey,
    decode_wrap,
    encode_wrap,
    require_keks,
    unwrap_key,
    wrap_key,
)
from fleet.vault_keyspace import (
    ULID_ENTROPY_BYTES,
    VAULT_KEY,
    dek_id_of,
    make_ulid,
    wrap_key_prefix,
)
from fleet.vault_pack import KEY_BYTES, PACK_TARGET_BYTES, PackKeys

_FORMAT = 1
_HEX_CHARS = 2 * KEY_BYTES


def read_kek_file(kek_id: str, path: Path) -> KeyEncryptionKey:
    """Read a key-encryption key: 64 hexadecimal digits, or 32 raw bytes.

    Raises:
        NotFoundError: there is no such file, or it may not be read.
        InvalidInputError: it holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"key file {path} of {kek_id}: {error.strerror}", hint="Check path and owner."
        ) from error
    text = content.strip()
    if len(text) == _HEX_CHARS:
        try:
            return KeyEncryptionKey(kek_id, bytes.fromhex(text.decode("ascii")))
        except ValueError as error:
            raise InvalidInputError(
                f"key file {path}", "64 other characters", "hexadecimal digits"
            ) from error
    if len(content) != KEY_BYTES:
        allowed = f"{_HEX_CHARS} hexadecimal digits or {KEY_BYTES} bytes"
        raise InvalidInputError(f"key file {path}", f"{len(content)} bytes", allowed)
    return KeyEncryptionKey(kek_id, content)


def create_vault(store: ObjectStore, at: datetime) -> str:
    """Create `vault.json` unless it is there; the vault's id.

    Raises:
        PermanentError: the store fails the self-test, so a vault on it would not be safe.
        CorruptObjectError: the object is there and is no vault of this format.
    """
    faults = store.check()
    if faults:
        raise PermanentError(
            f"the store cannot hold a vault: {'; '.join(faults)}",
            hint="Use a store with conditional PUT (If-None-Match) and consistent listing.",
        )
    fields = {
        "format": _FORMAT,
        "vault_id": make_ulid(at, os.urandom(ULID_ENTROPY_BYTES)),
        "hash": "blake3-keyed",
        "pack_target": PACK_TARGET_BYTES,
        "chunkers": ["whole", "fixed-16MiB", "fixed-64KiB", "duckdb-256KiB", "fastcdc-256KiB"],
        "created_at": at.astimezone(UTC).isoformat(),
    }
    store.create(VAULT_KEY, json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())
    return read_vault(store)


def read_vault(store: ObjectStore) -> str:
    """The vault's id.

    Raises:
        NotFoundError: there is no vault in this store.
        CorruptObjectError: `vault.json` is damaged.
        SchemaMismatchError: a newer version wrote it.
    """
    try:
        fields = json.loads(store.get(VAULT_KEY))
        written, vault_id = fields["format"], str(fields["vault_id"])
    except NotFoundError as error:
        raise NotFoundError(
            "there is no vault in this store", hint="Create one, or check folder or bucket."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptObjectError(f"{VAULT_KEY} cannot be read: {error}") from error
    if written != _FORMAT:
        raise SchemaMismatchError(
            f"{VAULT_KEY} is of format {written}, known is {_FORMAT}",
            hint="A newer Stateroom wrote it; use that version or a newer one.",
        )
    return vault_id


def create_data_key(
    store: ObjectStore, network_id: str, keks: Sequence[KeyEncryptionKey]
) -> PackKeys:
    """Make the data key of a network, or complete its wraps; committed by the first wrap.

    Raises:
        InvalidInputError: fewer than two different key-encryption keys.
        PermanentError: the network has records but no wrap: it was shredded.
    """
    require_keks(keks)
    dek_id = dek_id_of(validate_name("network_id", network_id))
    ordered = sorted(keks, key=lambda kek: kek.kek_id)
    if store.list_objects(wrap_key_prefix(dek_id)):
        keys = load_data_key(store, network_id, ordered)
    elif store.list_objects(f"log/{network_id}/"):
        raise PermanentError(
            f"network {network_id} has backups, but no wrap of its data key: it was shredded",
            hint="Nothing can open its backups any more; use another network id.",
        )
    else:
        keys = PackKeys(os.urandom(KEY_BYTES), dek_id, network_id)
        if not _add_wrap(store, keys, ordered[0]):
            keys = load_data_key(store, network_id, ordered)
    for kek in ordered:
        _add_wrap(store, keys, kek)
        _verify_wrap(store, keys, kek)
    return keys


def load_data_key(
    store: ObjectStore, network_id: str, keks: Sequence[KeyEncryptionKey]
) -> PackKeys:
    """Open the data key of a network with whichever of the keys has a wrap.

    Raises:
        NotFoundError: the network has no data key here (never backed up, or shredded).
        PermanentError: no given key opens it; the message says which wraps there are.
    """
    dek_id = dek_id_of(validate_name("network_id", network_id))
    prefix = wrap_key_prefix(dek_id)
    found = {one.key: one for one in store.list_objects(prefix)}
    if not found:
        raise NotFoundError(
            f"network {network_id} has no data key in this vault",
            hint="It was never backed up here, or it was shredded.",
        )
    refusals = []
    for kek in keks:
        key = f"{prefix}{kek.kek_id}.json"
        if key not in found:
            continue
        try:
            wrap = decode_wrap(store.get(key), key)
            if (wrap.dek_id, wrap.kek_id, wrap.network_id) != (dek_id, kek.kek_id, network_id):
                raise CorruptObjectError(f"key file {key} belongs elsewhere")
            return PackKeys(unwrap_key(wrap, kek), dek_id, network_id)
        except PermanentError as error:
            refusals.append(error)
    names = ", ".join(key.removeprefix(prefix).removesuffix(".json") for key in sorted(found))
    given = ", ".join(kek.kek_id for kek in keks) or "none"
    why = "; ".join(str(one) for one in refusals) or "none of the given keys has a wrap"
    raise PermanentError(
        f"network {network_id}: no key opens its data key; "
        f"wrapped by {names}; given {given}: {why}",
        hint="Give one of the keys that wrap it; nothing was written.",
    ) from (refusals[0] if refusals else None)


def rotate_kek(store: ObjectStore, keys: PackKeys, old_kek_id: str, new: KeyEncryptionKey) -> None:
    """Exchange a key-encryption key: add the new wrap, prove that it opens, delete the old one.

    No data is touched. Killed at any step and called again, it completes.

    Raises:
        InvalidInputError: the new key has the old one's id.
        PermanentError: the new wrap does not open to the same key, or too few wraps would remain;
            the old one stays.
    """
    if new.kek_id == old_kek_id:
        raise InvalidInputError("kek_id", new.kek_id, "an id other than the old key's")
    _add_wrap(store, keys, new)
    _verify_wrap(store, keys, new)
    prefix = wrap_key_prefix(keys.dek_id)
    old_key = f"{prefix}{old_kek_id}.json"
    remaining = {one.key for one in store.list_objects(prefix)} - {old_key}
    if len(remaining) < WRAPS_MIN:
        raise PermanentError(
            f"data key {keys.dek_id}: without {old_kek_id} only {len(remaining)} wrap remains",
            hint="Wrap it with one more key first.",
        )
    store.delete([old_key])


def shred_network(store: ObjectStore, network_id: str) -> int:
    """Delete every wrap of a network's data key: its backups in this store open no more.

    Repeat it in each region before the next replication. Returns how many wraps were deleted.
    """
    prefix = wrap_key_prefix(dek_id_of(validate_name("network_id", network_id)))
    wraps = [one.key for one in store.list_objects(prefix)]
    store.delete(wraps)
    left = store.list_objects(prefix)
    if left:
        raise StoreUnavailableError(
            f"network {network_id}: {len(left)} wraps are still there; shred it again"
        )
    return len(wraps)


def _add_wrap(store: ObjectStore, keys: PackKeys, kek: KeyEncryptionKey) -> bool:
    nonce = os.urandom(NONCE_BYTES)
    wrap = wrap_key(keys.data_key, kek, keys.dek_id, keys.network_id, nonce)
    return store.create(f"{wrap_key_prefix(keys.dek_id)}{kek.kek_id}.json", encode_wrap(wrap))


def _verify_wrap(store: ObjectStore, keys: PackKeys, kek: KeyEncryptionKey) -> None:
    key = f"{wrap_key_prefix(keys.dek_id)}{kek.kek_id}.json"
    if unwrap_key(decode_wrap(store.get(key), key), kek) != keys.data_key:
        raise PermanentError(
            f"key file {key} holds another data key",
            hint="Two vaults were mixed up; do not write to this one.",
        )
