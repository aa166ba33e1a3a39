"""Keys of a vault: a network's data key, wrapped by several key-encryption keys.

Data is sealed with the data key only; a key-encryption key opens nothing but the wraps made with
it. So a key-encryption key can be exchanged without touching data, and a network is shredded by
deleting every wrap of its data key. Each wrap is AES-256-GCM bound to the network, the data key's
id and the wrapping key's id: a wrap cannot be passed off as another's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet.errors import CorruptObjectError, InvalidInputError, PermanentError
from fleet.names import validate_name
from fleet.pack_keys import KEY_BYTES
from fleet.ports.key_wrapper import KMS_ALGORITHM, LOCAL_ALGORITHM, KeyWrapper, WrappedKey

WRAPS_MIN = 2
"""Key-encryption keys a data key must have: the region's and an offline recovery key."""
NONCE_BYTES = 12
"""AES-GCM's nonce (NIST SP 800-38D)."""
_ALGORITHMS = (LOCAL_ALGORITHM, KMS_ALGORITHM)
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """A key at hand that wraps data keys; its bytes never appear in a text."""

    kek_id: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a bad name or length before anything is wrapped."""
        validate_name("kek_id", self.kek_id)
        if len(self.key) != KEY_BYTES:
            raise InvalidInputError("key", f"{len(self.key)} bytes", f"{KEY_BYTES} bytes")

    @property
    def identity(self) -> str:
        """A hash of the key: tells that two of different names are one."""
        return f"sha256:{hashlib.sha256(b'stateroom key identity' + self.key).hexdigest()}"

    def wrap(self, data_key: bytes, dek_id: str, network_id: str, nonce: bytes) -> WrappedKey:
        """See `KeyWrapper.wrap`."""
        return wrap_key(data_key, self, dek_id, network_id, nonce)

    def unwrap(self, wrap: WrappedKey) -> bytes:
        """See `KeyWrapper.unwrap`."""
        return unwrap_key(wrap, self)


def require_keks(keks: Sequence[KeyWrapper]) -> None:
    """Demand enough different keys that losing one does not lose the data.

    Raises:
        InvalidInputError: fewer than `WRAPS_MIN`, or two of one id or of one identity.
    """
    ids, keys = {kek.kek_id for kek in keks}, {kek.identity for kek in keks}
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
    if wrap.algorithm != LOCAL_ALGORITHM:
        raise PermanentError(
            f"data key {wrap.dek_id}: the wrap of {wrap.kek_id} is of {wrap.algorithm}, "
            f"key {kek.kek_id} is of {LOCAL_ALGORITHM}",
            hint="Two different keys share this name; give the one that made the wrap.",
        )
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
        "algorithm": wrap.algorithm,
        "dek_id": wrap.dek_id,
        "kek_id": wrap.kek_id,
        "network_id": wrap.network_id,
        "nonce": wrap.nonce.hex(),
        "wrapped": wrap.wrapped.hex(),
    }
    if wrap.created_at is not None:
        fields["created_at"] = wrap.created_at.astimezone(UTC).isoformat()
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
        known = fields["format"] == _FORMAT and fields["algorithm"] in _ALGORITHMS
        created_at = fields.get("created_at")
        wrap = WrappedKey(
            str(fields["dek_id"]),
            str(fields["kek_id"]),
            str(fields["network_id"]),
            bytes.fromhex(fields["nonce"]),
            bytes.fromhex(fields["wrapped"]),
            str(fields["algorithm"]),
            None if created_at is None else datetime.fromisoformat(created_at),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptObjectError(
            f"key file {key} cannot be read: {error}",
            hint="Another wrap of the same data key still opens the vault.",
        ) from error
    if not known:
        raise CorruptObjectError(
            f"key file {key} is not of format {_FORMAT}, {' or '.join(_ALGORITHMS)}"
        )
    return wrap


def _bound_to(dek_id: str, kek_id: str, network_id: str) -> bytes:
    return f"stateroom key\x00{dek_id}\x00{kek_id}\x00{network_id}".encode()
