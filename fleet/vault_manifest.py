"""The manifest envelope: a Parquet file sealed in 1 MiB frames, named by its hash.

Pure: bytes in, bytes out. Each frame is bound to the network, the manifest's salt, its number and
whether it is the last one, so a manifest cannot be cut short, reordered or moved.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet.errors import CorruptObjectError, InvalidInputError
from fleet.pack_keys import PackKeys, derive_key
from fleet.vault_pack import SALT_BYTES, TAG_BYTES

FRAME_BYTES = 1024 * 1024
"""Plain bytes in each frame but the last."""
_MAGIC = b"SRM1"
_SEALED_BYTES = FRAME_BYTES + TAG_BYTES


class SealedManifest(NamedTuple):
    """A finished manifest object."""

    sha256: str
    """Of `data`; its name."""
    data: bytes


def seal_manifest(keys: PackKeys, plain: bytes | memoryview, salt: bytes) -> SealedManifest:
    """Seal a manifest.

    Args:
        keys: of the network; the newest one seals.
        plain: the Parquet file.
        salt: 32 fresh random bytes; never use one twice.
    """
    if len(salt) != SALT_BYTES:
        raise InvalidInputError("salt", f"{len(salt)} bytes", f"{SALT_BYTES} bytes")
    sealing = keys.newest
    dek_id = sealing.dek_id.encode()
    cipher = _cipher(sealing, salt)
    frames = max(1, -(-len(plain) // FRAME_BYTES))
    parts = [_MAGIC, bytes((len(dek_id),)), dek_id, salt]
    for number in range(frames):
        body = plain[number * FRAME_BYTES : (number + 1) * FRAME_BYTES]
        bound = _bound_to(keys.network_id, salt, number, number == frames - 1)
        parts.append(cipher.encrypt(number.to_bytes(12, "big"), body, bound))
    data = b"".join(parts)
    return SealedManifest(hashlib.sha256(data).hexdigest(), data)


def open_manifest(keys: PackKeys, data: bytes, name: str) -> bytes:
    """The Parquet file inside a manifest object.

    Args:
        keys: of the network.
        data: the object's bytes.
        name: SHA-256 that the log gives for it.

    Raises:
        CorruptObjectError: damaged, cut, exchanged, or sealed with another key.
        PermanentError: it names a data key that was not opened.
    """
    if hashlib.sha256(data).hexdigest() != name:
        raise CorruptObjectError(
            f"manifest {name}: its bytes do not match its name",
            hint="Run `stateroom backups verify`; another region may heal it.",
        )
    start = 5 + data[4] + SALT_BYTES if data[:4] == _MAGIC and len(data) > 4 else len(data)
    if start >= len(data):
        raise CorruptObjectError(f"manifest {name}: no manifest of this format")
    salt = data[start - SALT_BYTES : start]
    dek_id = data[5 : start - SALT_BYTES].decode(errors="replace")
    cipher = _cipher(keys.opening(dek_id), salt)
    frames = -(-(len(data) - start) // _SEALED_BYTES)
    parts = []
    try:
        for number in range(frames):
            offset = start + number * _SEALED_BYTES
            bound = _bound_to(keys.network_id, salt, number, number == frames - 1)
            sealed = data[offset : offset + _SEALED_BYTES]
            parts.append(cipher.decrypt(number.to_bytes(12, "big"), sealed, bound))
    except InvalidTag as error:
        raise CorruptObjectError(
            f"manifest {name} does not open: another key, or of another network"
        ) from error
    return b"".join(parts)


def _cipher(keys: PackKeys, salt: bytes) -> AESGCM:
    info = b"stateroom manifest" + keys.network_id.encode()
    return AESGCM(derive_key(keys.data_key, salt, info))


def _bound_to(network_id: str, salt: bytes, number: int, last: bool) -> bytes:
    return b"".join(
        (_MAGIC, network_id.encode(), salt, number.to_bytes(4, "big"), b"\x01" if last else b"\x00")
    )
