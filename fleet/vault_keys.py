"""Keys of a vault: a network's data key, wrapped by several key-encryption keys.

Data is sealed with the data key only; a key-encryption key opens nothing but the wraps made with
it. So a key-encryption key can be exchanged without touching data, and a network is shredded by
deleting every wrap of its data key. Each wrap is AES-256-GCM bound to the network, the data key's
id and the wrapping key's id: a wrap cannot be passed off as another's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet.errors import CorruptObjectError, InvalidInputError, PermanentError
from fleet.names import validate_name
from fleet.vault_pack import KEY_BYTES

WRAPS_MIN = 2
"""Key-encryption keys a data key must have: the region's and an offline recovery key."""
NONCE_BYTES = 12
"""AES-GCM's nonce (NIST SP 800-38D)."""
_ALGORITHM = "AES-256-GCM"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """A key that wraps data keys; its bytes never appear in a text."""

    kek_id: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a bad name or length before anything is wrapped."""
        validate_name("kek_id", self.kek_id)
        if len(self.key) != KEY_BYTES:
            raise InvalidInputError("key", f"{len(self.key)} bytes", f"{KEY_BYTES} bytes")


class WrappedKey(NamedTuple):
    """A data key as one key-encryption key wraps it."""

    dek_id: str
    kek_id: str
    network_id: str
    nonce: bytes
    wrapped: bytes


def require_keks(keks: Sequence[KeyEncryptionKey]) -> None:
    """Demand enough different keys that losing one does not lose the data.

    Raises:
        InvalidInputError: fewer than `WRAPS_MIN`, or two of one id or of equal bytes.
    """
    ids, keys = {kek.kek_id for kek in keks}, {kek.key for kek in keks}
    if len(ids) < len(keks) or len(keys) < len(keks) or len(keks) < WRAPS_MIN:
        listed = ", ".join(kek.kek_id for kek in keks)
        raise InvalidInputError(
            "key-encryption keys",
            listed,
            f"at least {WRAPS_MIN} different ones",
            hint="Give the region's key and an offline recovery key.",
        )


def wrap_key(
    data_key: bytes, kek: KeyEncryptionKey, dek_id: str, network_id: str, nonce: bytes
) -> WrappedKey:
    """Wrap a data key.

    Args:
        data_key: 32 bytes.
        kek: wraps it.
        dek_id: id of the data key.
        network_id: whose data it seals.
        nonce: 12 fresh random bytes; never use one twice with one key-encryption key.
    """
    for name, value, length in (("data_key", data_key, KEY_BYTES), ("nonce", nonce, NONCE_BYTES)):
        if len(value) != length:
            raise InvalidInputError(name, f"{len(value)} bytes", f"{length} bytes")
    bound = _bound_to(dek_id, kek.kek_id, network_id)
    sealed = AESGCM(kek.key).encrypt(nonce, data_key, bound)
    return WrappedKey(dek_id, kek.kek_id, network_id, nonce, sealed)


def unwrap_key(wrap: WrappedKey, kek: KeyEncryptionKey) -> bytes:
    """The data key inside a wrap.

    Raises:
        PermanentError: the key is not the one that made this wrap, or the wrap was altered.
    """
    bound = _bound_to(wrap.dek_id, wrap.kek_id, wrap.network_id)
    try:
        return AESGCM(kek.key).decrypt(wrap.nonce, wrap.wrapped, bound)
    except InvalidTag as error:
        raise PermanentError(
            f"data key {wrap.dek_id}: key {kek.kek_id} does not open the wrap of {wrap.kek_id}: "
            "wrong key, or the wrap was altered",
            hint="Check which key file belongs to this vault; nothing was written.",
        ) from error


def encode_wrap(wrap: WrappedKey) -> bytes:
    """The bytes of `keys/{dek_id}/{kek_id}.json`."""
    fields = {
        "format": _FORMAT,
        "algorithm": _ALGORITHM,
        "dek_id": wrap.dek_id,
        "kek_id": wrap.kek_id,
        "network_id": wrap.network_id,
        "nonce": wrap.nonce.hex(),
        "wrapped": wrap.wrapped.hex(),
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def decode_wrap(data: bytes, key: str) -> WrappedKey:
    """Read a wrap.

    Args:
        data: the object's bytes.
        key: of the object, for the error.

    Raises:
        CorruptObjectError: it is no wrap of this format.
    """
    try:
        fields = json.loads(data)
        known = (fields["format"], fields["algorithm"]) == (_FORMAT, _ALGORITHM)
        wrap = WrappedKey(
            str(fields["dek_id"]),
            str(fields["kek_id"]),
            str(fields["network_id"]),
            bytes.fromhex(fields["nonce"]),
            bytes.fromhex(fields["wrapped"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptObjectError(
            f"key file {key} cannot be read: {error}",
            hint="Another wrap of the same data key still opens the vault.",
        ) from error
    if not known:
        raise CorruptObjectError(f"key file {key} is not of format {_FORMAT}, {_ALGORITHM}")
    return wrap


def _bound_to(dek_id: str, kek_id: str, network_id: str) -> bytes:
    return f"stateroom key\x00{dek_id}\x00{kek_id}\x00{network_id}".encode()
