"""A vault's identity and a network's keys: made once, loaded by any key at hand.

A data key is committed by its first wrap (that of the key-encryption key whose id sorts first);
two creators therefore agree on one. Killed behind it, the data key has fewer wraps than asked for:
`create_data_key` with the same keys completes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    SchemaMismatchError,
    TransientError,
)
from fleet.names import validate_name
from fleet.pack_keys import KEY_BYTES, PackKeys
from fleet.ports.key_wrapper import KeyWrapper
from fleet.ports.object_store import ObjectStore
from fleet.vault_keys import WRAPS_MIN, KeyEncryptionKey, require_keks
from fleet.vault_keyspace import ULID_ENTROPY_BYTES, VAULT_KEY, dek_id_of, make_ulid
from fleet.vault_pack import PACK_TARGET_BYTES
from resources.vault.keys.key_wraps import list_wraps, make_data_key, open_data_key
from resources.vault.keys.shredding import demand_unshredded

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


def read_kek_text(kek_id: str, source: str, text: str) -> KeyEncryptionKey:
    """Read a key-encryption key from a text, such as the value of an environment variable.

    Args:
        kek_id: name of the key.
        source: where the text is from, for the error: `STATEROOM_BACKUP_KEY`.
        text: 64 hexadecimal digits.

    Raises:
        InvalidInputError: it is something else; the message does not repeat it.
    """
    digits = text.strip()
    try:
        key = bytes.fromhex(digits) if len(digits) == _HEX_CHARS else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidInputError(
            f"key in {source}", f"{len(digits)} characters", f"{_HEX_CHARS} hexadecimal digits"
        )
    return KeyEncryptionKey(kek_id, key)


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
    store: ObjectStore,
    network_id: str,
    keks: Sequence[KeyWrapper],
    at: datetime | None = None,
) -> PackKeys:
    """Make the first data key of a network, or complete its wraps; committed by the first wrap.

    Args:
        store: where the vault lies.
        network_id: whose data it seals.
        keks: at least two; the one whose id sorts first wraps first.
        at: now, noted in the wraps; None notes nothing.

    Raises:
        InvalidInputError: fewer than two different key-encryption keys.
        PermanentError: the network was shredded, or a key may not be used.
    """
    require_keks(keks)
    dek_id = dek_id_of(validate_name("network_id", network_id))
    demand_unshredded(store, network_id)
    is_new = dek_id not in list_wraps(store, network_id)
    if is_new and store.list_objects(f"log/{network_id}/"):
        raise PermanentError(
            f"network {network_id} has backups, but no wrap of its first data key",
            hint="Copy the folder keys/ back from another region, or use another network id.",
        )
    make_data_key(store, PackKeys(os.urandom(KEY_BYTES), dek_id, network_id), keks, at)
    return load_data_key(store, network_id, keks)


def load_data_key(store: ObjectStore, network_id: str, keks: Sequence[KeyWrapper]) -> PackKeys:
    """Open the data keys of a network with whichever of the given keys has a wrap.

    Costs a listing, a request for each data key, and as many calls of a key service.

    Raises:
        NotFoundError: the network has no data key here (never backed up, or its wraps are lost).
        PermanentError: it was shredded, or no given key opens its first data key; the message says
            which wraps there are.
        TransientError: the same, and a key service did not answer.
    """
    demand_unshredded(store, network_id)
    first_id = dek_id_of(network_id)
    found = list_wraps(store, network_id)
    if first_id not in found:
        raise NotFoundError(
            f"network {network_id} has no data key in this vault",
            hint="It was never backed up here, or its wraps are lost: look in another region.",
        )
    first = open_data_key(store, network_id, first_id, found.pop(first_id), keks)
    later: list[PackKeys] = []
    unopened: list[str] = []
    for dek_id, wraps in found.items():
        is_usable = len(wraps) >= WRAPS_MIN
        try:
            one = open_data_key(store, network_id, dek_id, wraps, keks)
        except (PermanentError, TransientError):
            if is_usable:
                unopened.append(dek_id)
        else:
            later.append(replace(one, may_seal=is_usable))
    return replace(first, later=tuple(later), unopened=tuple(unopened))
