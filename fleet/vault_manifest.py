"""The manifest envelope: a Parquet file sealed in 1 MiB frames, named by its hash.

Pure: bytes in, bytes out. Each frame is bound to the network, the manifest's salt, its number and
whether it is the last one, so a manifest cannot be cut short, reordered or moved. Both sides work
frame by frame: a manifest of a million agents is never held open and sealed at once.
"""

from __future__ import annotations

import hashlib
import io
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


class ManifestSealer(io.RawIOBase):
    """A file to write the Parquet file into; what is written is sealed at once.

    Args:
        keys: of the network; the newest one seals.
        salt: 32 fresh random bytes; never use one twice.
    """

    def __init__(self, keys: PackKeys, salt: bytes) -> None:
        """Seal nothing yet."""
        if len(salt) != SALT_BYTES:
            raise InvalidInputError("salt", f"{len(salt)} bytes", f"{SALT_BYTES} bytes")
        super().__init__()
        sealing = keys.newest
        dek_id = sealing.dek_id.encode()
        self._network_id = keys.network_id
        self._salt = salt
        self._cipher = _cipher(sealing, salt)
        # Its buffer becomes the object without being copied: joining parts would hold both.
        self._data = io.BytesIO()
        self._data.write(b"".join((_MAGIC, bytes((len(dek_id),)), dek_id, salt)))
        self._frames = 0
        self._plain = bytearray()
        """Of the frame that is not full yet; also a full one, as long as it may be the last."""
        self._written = 0

    def writable(self) -> bool:
        """As a file says it."""
        return True

    def tell(self) -> int:
        """Plain bytes so far."""
        return self._written

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Take all of it."""
        plain = memoryview(data).cast("B")
        for start in range(0, len(plain), FRAME_BYTES):
            self._plain += plain[start : start + FRAME_BYTES]
            if len(self._plain) > FRAME_BYTES:
                self._seal(FRAME_BYTES, last=False)
        self._written += len(plain)
        return len(plain)

    def sealed(self) -> SealedManifest:
        """The finished object; write nothing afterwards."""
        self._seal(len(self._plain), last=True)
        data = self._data.getvalue()
        self._data.close()
        return SealedManifest(hashlib.sha256(data).hexdigest(), data)

    def _seal(self, size_bytes: int, *, last: bool) -> None:
        bound = _bound_to(self._network_id, self._salt, self._frames, last)
        body = bytes(self._plain[:size_bytes])
        self._data.write(self._cipher.encrypt(self._frames.to_bytes(12, "big"), body, bound))
        self._frames += 1
        del self._plain[:size_bytes]


class ManifestOpener(io.RawIOBase):
    """A file to read the Parquet file from; frames are opened when they are read.

    Args:
        keys: of the network.
        data: the object's bytes.
        name: SHA-256 that the log gives for it.

    Raises:
        CorruptObjectError: damaged, cut, exchanged; when a frame is read: sealed with another key.
        PermanentError: it names a data key that was not opened.
    """

    def __init__(self, keys: PackKeys, data: bytes, name: str) -> None:
        """Check the name, and find the key."""
        super().__init__()
        if hashlib.sha256(data).hexdigest() != name:
            raise CorruptObjectError(
                f"manifest {name}: its bytes do not match its name",
                hint="Run `stateroom backups verify`; another region may heal it.",
            )
        start = 5 + data[4] + SALT_BYTES if data[:4] == _MAGIC and len(data) > 4 else len(data)
        if start >= len(data):
            raise CorruptObjectError(f"manifest {name}: no manifest of this format")
        self._name = name
        self._network_id = keys.network_id
        self._data = memoryview(data)[start:]
        self._salt = data[start - SALT_BYTES : start]
        dek_id = data[5 : start - SALT_BYTES].decode(errors="replace")
        self._cipher = _cipher(keys.opening(dek_id), self._salt)
        self._frames = -(-len(self._data) // _SEALED_BYTES)
        self._size = max(0, len(self._data) - self._frames * TAG_BYTES)
        self._at = 0
        self._opened = (-1, b"")
        """Number and plain bytes of the frame that was read last."""

    def readable(self) -> bool:
        """As a file says it."""
        return True

    def seekable(self) -> bool:
        """As a file says it."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go there."""
        begins = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}
        self._at = begins[whence] + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer at the end; -1 for all that follow.

        Raises:
            CorruptObjectError: a frame was sealed with another key, or for another network.
        """
        end = self._size if size < 0 else min(self._size, self._at + size)
        parts = []
        while self._at < end:
            number, begin = divmod(self._at, FRAME_BYTES)
            part = self._frame(number)[begin : begin + end - self._at]
            parts.append(part)
            self._at += len(part)
        return b"".join(parts)

    def _frame(self, number: int) -> bytes:
        if self._opened[0] != number:
            bound = _bound_to(self._network_id, self._salt, number, number == self._frames - 1)
            sealed = self._data[number * _SEALED_BYTES : (number + 1) * _SEALED_BYTES]
            try:
                plain = self._cipher.decrypt(number.to_bytes(12, "big"), bytes(sealed), bound)
            except InvalidTag as error:
                raise CorruptObjectError(
                    f"manifest {self._name} does not open: another key, or of another network"
                ) from error
            self._opened = (number, plain)
        return self._opened[1]


def _cipher(keys: PackKeys, salt: bytes) -> AESGCM:
    info = b"stateroom manifest" + keys.network_id.encode()
    return AESGCM(derive_key(keys.data_key, salt, info))


def _bound_to(network_id: str, salt: bytes, number: int, last: bool) -> bytes:
    return b"".join(
        (_MAGIC, network_id.encode(), salt, number.to_bytes(4, "big"), b"\x01" if last else b"\x00")
    )
