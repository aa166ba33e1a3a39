"""What proves an object of a vault: its name, its HMAC, a key that opens it, or only its form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from fleet.errors import PermanentError, StateroomError, TransientError
from fleet.ports.key_wrapper import KeyWrapper
from fleet.vault_keys import decode_wrap, encode_wrap
from fleet.vault_keyspace import VAULT_KEY, log_folder, manifest_key, parse_place
from fleet.vault_log import SnapshotRecord
from resources.vault.network import NetworkVault, chain_of


class ObjectCheck:
    """Tells good bytes from bad ones, wherever they come from.

    Args:
        vault: the network's keys and log.
        keks: wrapping keys at hand; a wrap of another key is judged by its form alone.
    """

    def __init__(self, vault: NetworkVault, keks: Sequence[KeyWrapper]) -> None:
        """Nothing is read."""
        self._vault = vault
        self._keks = {one.kek_id: one for one in keks}

    def fault_of(self, key: str, data: bytes | None) -> str | None:
        """What is wrong with the bytes of an object, or None.

        Args:
            key: where they belong.
            data: None for a missing object.
        """
        if data is None:
            return "missing"
        try:
            if key == VAULT_KEY:
                return _vault_fault(data)
            if key.startswith("keys/"):
                return self._wrap_fault(key, data)
            if self._opens_in_a_log(key, data):
                return None
            found = hashlib.sha256(data).hexdigest()
            return None if found == parse_place(key, 0).sha256 else f"SHA-256 is {found}"
        except StateroomError as error:
            return str(error)

    def _opens_in_a_log(self, key: str, data: bytes) -> bool:
        """Whether this is a record or a checkpoint; CorruptObjectError for one that is damaged."""
        if key.startswith(log_folder(self._vault.network_id)):
            self._vault.log.authenticate(key, data)
            return True
        for log in self._vault.logs():
            if key.startswith(log.checkpoints.folder):
                log.checkpoints.open(key, data)
                return True
        return False

    def is_proof(self, key: str) -> bool:
        """Whether `fault_of` None proves the very bytes, beyond their form."""
        if key == VAULT_KEY:
            return False
        if key.startswith("keys/"):
            return key.rsplit("/", maxsplit=1)[-1].removesuffix(".json") in self._keks
        return True

    def _wrap_fault(self, key: str, data: bytes) -> str | None:
        wrap = decode_wrap(data, key)
        if encode_wrap(wrap) != data:
            return "is not in its canonical form"
        _, dek_id, name = key.split("/")
        if (wrap.dek_id, f"{wrap.kek_id}.json") != (dek_id, name):
            return "belongs elsewhere"
        kek, data_key = self._keks.get(wrap.kek_id), self._data_key(dek_id)
        if kek is None or data_key is None:
            return None
        try:
            opened = kek.unwrap(wrap)
        except TransientError:
            # A key service that does not answer says nothing about the wrap: form alone, then.
            del self._keks[wrap.kek_id]
            return None
        except PermanentError as error:
            return str(error)
        return None if opened == data_key else "wraps another data key"

    def _data_key(self, dek_id: str) -> bytes | None:
        """The data key, where it was opened."""
        try:
            return self._vault.keys.opening(dek_id).data_key
        except PermanentError:
            return None


class PlacedObject(NamedTuple):
    """An object that a snapshot reads."""

    key: str
    size_bytes: int


def chain_objects(vault: NetworkVault, snapshot_id: str) -> list[PlacedObject]:
    """The manifests that a snapshot reads, its base first."""
    stored = vault.snapshot(snapshot_id)
    if not isinstance(stored.record, SnapshotRecord):
        return []
    return [
        PlacedObject(manifest_key(vault.network_id, one.owner, one.sha256), one.size_bytes)
        for one in chain_of(stored)
    ]


def _vault_fault(data: bytes) -> str | None:
    """`vault.json` in its one canonical form; its values can only be compared with other copies."""
    try:
        fields = json.loads(data)
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        known = fields["format"] == 1 and isinstance(fields["vault_id"], str)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"cannot be read: {error}"
    return None if known and canonical == data else "is not in its canonical form"
