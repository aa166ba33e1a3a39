"""The pack codec: many blobs, each compressed and sealed, in one object named by its hash.

The format is `docs/formats/backup.md`. The codec is pure: bytes in, bytes out; the salt is an
argument. Every blob is decompressed and compared before its frame leaves, because a library or
memory fault that is noticed only at restore is noticed too late (restic #4523).
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Sequence
from typing import NamedTuple

import zstandard
from cryptography.exceptions import InvalidTag

from fleet.errors import CorruptObjectError, InvalidInputError
from fleet.pack_keys import PackKeys

PACK_TARGET_BYTES = 16 * 1024 * 1024
"""A pack is closed when it has grown to this size."""
PACK_MAX_BYTES = 32 * 1024 * 1024
"""No pack grows beyond it; larger content is chunked before it gets here."""
SALT_BYTES = 32
TAG_BYTES = 16
"""AES-GCM's authentication tag, at the end of each frame."""

_MAGIC = b"SRP1"
_MAGIC_END = b"1PRS"
_VERSION = 1
_TABLE_FRAME = 2**32 - 1
_TABLE_PART_ROWS = 1000
_RAW, _ZSTD = b"\x00", b"\x01"
_ZSTD_LEVEL = 3
_RAW_ABOVE = 0.97
"""Stored raw when compression saves less than 3 %."""
Sealed = bytes | memoryview
"""Of a frame: a view spares a copy where many frames were read by one request."""
_TRAILER = struct.Struct("<I4s")
TRAILER_BYTES = _TRAILER.size


class PackRow(NamedTuple):
    """Where one blob lies in a pack."""

    blob_id: bytes
    frame: int
    offset: int
    length: int
    """Of the sealed frame: one ranged read of `length` bytes at `offset` fetches it."""
    plain_length: int
    kind: str
    item_id: str
    version: int


class Pack(NamedTuple):
    """A finished pack."""

    sha256: str
    """Of `data`; its name."""
    data: bytes
    salt: bytes
    rows: tuple[PackRow, ...]
    dek_id: str
    """Data key that sealed it."""
    table_length: int = 0
    """Of the sealed table, which ends `TRAILER_BYTES` before the end of `data`."""


def _nonce(frame: int) -> bytes:
    return frame.to_bytes(12, "big")


def _bound_to(network_id: str, salt: bytes, frame: int, kind: str) -> bytes:
    """What a frame is authenticated with: moved anywhere else it does not open."""
    return b"".join((_MAGIC, network_id.encode(), salt, frame.to_bytes(4, "big"), kind.encode()))


class FrameCompressor:
    """Makes the bodies of frames, each proven by decompressing it; one per thread."""

    def __init__(self) -> None:
        """Both directions are needed."""
        self._compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()

    def body(self, plain: bytes, item_id: str) -> bytes:
        """What is sealed of a blob.

        Raises:
            CorruptObjectError: compression did not give the blob back.
        """
        packed = self._compressor.compress(plain)
        if len(packed) > len(plain) * _RAW_ABOVE:
            return _RAW + plain
        if self._decompressor.decompress(packed, max_output_size=len(plain)) != plain:
            raise CorruptObjectError(
                f"{item_id}: compression did not give the same bytes back",
                hint="Suspect this machine's memory; nothing was stored.",
            )
        return _ZSTD + packed


class PackBuilder:
    """Collects blobs until the pack is finished; not thread-safe, one per worker.

    Args:
        keys: of the network; the newest one seals.
        salt: 32 fresh random bytes; never use one twice.
    """

    def __init__(self, keys: PackKeys, salt: bytes) -> None:
        """Write the header."""
        if len(salt) != SALT_BYTES:
            raise InvalidInputError("salt", f"{len(salt)} bytes", f"{SALT_BYTES} bytes")
        sealing = keys.newest
        dek_id = sealing.dek_id.encode()
        self._keys = sealing
        self._salt = salt
        self._cipher = sealing.cipher(salt)
        # Its buffer becomes the pack without being copied: joining parts would hold both.
        self._data = io.BytesIO()
        self._data.write(b"".join((_MAGIC, bytes((_VERSION, len(dek_id))), dek_id, salt)))
        self._rows: list[PackRow] = []
        self._frames = FrameCompressor()

    @property
    def size_bytes(self) -> int:
        """Bytes so far; close the pack at `PACK_TARGET_BYTES`."""
        return self._data.tell()

    @property
    def is_empty(self) -> bool:
        """Whether it holds no blob yet."""
        return not self._rows

    def add(self, blob_id: bytes, plain: bytes, kind: str, item_id: str, version: int) -> PackRow:
        """Seal one blob as the next frame.

        Raises:
            CorruptObjectError: compression did not give the blob back; nothing was added.
            InvalidInputError: the blob does not fit into a pack.
        """
        if len(plain) + self.size_bytes > PACK_MAX_BYTES:
            raise InvalidInputError("blob", f"{len(plain)} bytes", f"less than {PACK_MAX_BYTES}")
        frame = len(self._rows)
        sealed = self._seal(self._frames.body(plain, item_id), frame, kind)
        start = self.size_bytes
        row = PackRow(blob_id, frame, start, len(sealed), len(plain), kind, item_id, version)
        self._data.write(sealed)
        self._rows.append(row)
        return row

    def adopt(self, row: PackRow, body: bytes) -> PackRow:
        """Seal a blob that is compressed already, in another pack or thread, as the next frame.

        Args:
            row: of the blob; its place in this pack is found here.
            body: of the frame, as `open_body` or `FrameCompressor` gives it.
        """
        frame = len(self._rows)
        sealed = self._seal(body, frame, row.kind)
        moved = row._replace(frame=frame, offset=self.size_bytes, length=len(sealed))
        self._data.write(sealed)
        self._rows.append(moved)
        return moved

    def finish(self) -> Pack:
        """Append table and trailer; the builder is used up."""
        sealed = self._seal(_ZSTD + _compress(self._table()), _TABLE_FRAME, "table")
        trailer = _TRAILER.pack(len(sealed), _MAGIC_END)
        self._data.write(sealed + trailer)
        data = self._data.getvalue()
        self._data.close()  # while the pack is being stored its bytes are held once
        name = hashlib.sha256(data).hexdigest()
        return Pack(name, data, self._salt, tuple(self._rows), self._keys.dek_id, len(sealed))

    def _table(self) -> bytes:
        """The list of rows as JSON; in parts, as a pack of tiny blobs has half a million."""
        table = io.BytesIO()
        table.write(b"[")
        for start in range(0, len(self._rows), _TABLE_PART_ROWS):
            rows = self._rows[start : start + _TABLE_PART_ROWS]
            part = [[row.blob_id.hex(), *row[1:]] for row in rows]
            table.write(b"," if start else b"")
            table.write(json.dumps(part, separators=(",", ":"))[1:-1].encode())
        table.write(b"]")
        return table.getvalue()

    def _seal(self, body: bytes, frame: int, kind: str) -> bytes:
        bound = _bound_to(self._keys.network_id, self._salt, frame, kind)
        return self._cipher.encrypt(_nonce(frame), body, bound)


def _compress(plain: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(plain)


def open_frame(
    keys: PackKeys, salt: bytes, row: PackRow, sealed: bytes, pack: str, dek_id: str = ""
) -> bytes:
    """The blob of one frame, proven to be the one that was stored.

    Args:
        keys: of the network.
        salt: of the pack.
        row: what the manifest (or the pack's table) says of the blob.
        sealed: `row.length` bytes at `row.offset`.
        pack: the pack's name, for the error.
        dek_id: data key that the pack's header names; empty for the network's first one.

    Raises:
        CorruptObjectError: the frame was damaged, moved, exchanged, or sealed with another key.
        PermanentError: that data key was not opened.
    """
    return open_body(keys, salt, row, sealed, pack, dek_id)[1]


def open_body(
    keys: PackKeys, salt: bytes, row: PackRow, sealed: bytes, pack: str, dek_id: str = ""
) -> tuple[bytes, bytes]:
    """The body of a frame as it was sealed, and its blob; arguments and errors as `open_frame`."""
    return FrameOpener(keys, salt, pack, dek_id).body_of(row, sealed)


class FrameOpener:
    """Opens the frames of one pack; for one thread, which makes it once for many frames.

    Args:
        keys: of the network.
        salt: of the pack.
        pack: the pack's name, for errors.
        dek_id: data key that the pack's header names; empty for the network's first one.

    Raises:
        PermanentError: that data key was not opened.
    """

    def __init__(self, keys: PackKeys, salt: bytes, pack: str, dek_id: str = "") -> None:
        """Derive the pack's key."""
        self._keys = keys
        self._salt = salt
        self._pack = pack
        self._cipher = keys.opening(dek_id).cipher(salt)
        # A new one for each frame would take twice as long as the decompression itself.
        self._decompressor = zstandard.ZstdDecompressor()

    def open(self, frame: int, kind: str, sealed: Sealed) -> tuple[bytes, bytes]:
        """Body and blob of a frame, proven by its tag to be what was sealed as this very frame.

        The tag says nothing of what the writer meant by it: whoever knows the blob's id, or the
        digest of the whole item, compares that.

        Raises:
            CorruptObjectError: it was damaged, moved, exchanged, or sealed with another key.
        """
        bound = _bound_to(self._keys.network_id, self._salt, frame, kind)
        try:
            body = self._cipher.decrypt(_nonce(frame), sealed, bound)
            if body[:1] == _RAW:
                return body, body[1:]
            return body, self._decompressor.decompress(memoryview(body)[1:])
        except (InvalidTag, zstandard.ZstdError) as error:
            raise CorruptObjectError(
                f"pack {self._pack}: frame {frame} does not open: damaged, moved, or another key",
                hint="Run `stateroom backups verify`; another region may heal it.",
            ) from error

    def body_of(self, row: PackRow, sealed: Sealed) -> tuple[bytes, bytes]:
        """Body and blob of a frame, proven by the blob's id to be the one that the row names.

        Raises:
            CorruptObjectError: as `open`, or it holds another blob.
        """
        body, plain = self.open(row.frame, row.kind, sealed)
        if len(plain) != row.plain_length or self._keys.blob_id(plain) != row.blob_id:
            raise CorruptObjectError(f"pack {self._pack}: frame {row.frame} holds another blob")
        return body, plain


HEADER_MAX_BYTES = 6 + 255 + SALT_BYTES
"""A pack's header is never longer."""


def read_salt(data: bytes, pack: str) -> tuple[str, bytes]:
    """Data key id and salt from a pack's header (`HEADER_MAX_BYTES` are enough).

    Raises:
        CorruptObjectError: this is no pack of this format.
    """
    if data[:4] != _MAGIC or len(data) < 6 or data[4] != _VERSION:
        raise CorruptObjectError(f"pack {pack}: not a pack of format {_VERSION}")
    end = 6 + data[5]
    salt = data[end : end + SALT_BYTES]
    if len(salt) != SALT_BYTES:
        raise CorruptObjectError(f"pack {pack}: header is cut off")
    return data[6:end].decode(errors="replace"), salt


def read_table(keys: PackKeys, data: bytes, pack: str) -> Sequence[PackRow]:
    """The rows of a whole pack, from the pack alone: an index can be rebuilt from packs.

    Raises:
        CorruptObjectError: header, trailer or table are damaged.
    """
    dek_id, salt = read_salt(data, pack)
    return open_tail(keys.opening(dek_id), salt, data, pack)


def open_tail(keys: PackKeys, salt: bytes, tail: bytes, pack: str) -> Sequence[PackRow]:
    """The rows of a pack from its last bytes, for a reader that knows the salt.

    Args:
        keys: data key and network.
        salt: of the pack.
        tail: the pack from somewhere before its table to its end.
        pack: the pack's name, for the error.

    Raises:
        CorruptObjectError: trailer or table are damaged.
    """
    if len(tail) < _TRAILER.size:
        raise CorruptObjectError(f"pack {pack}: trailer is cut off")
    length, magic = _TRAILER.unpack(tail[-_TRAILER.size :])
    start = len(tail) - _TRAILER.size - length
    if magic != _MAGIC_END or start < 0:
        raise CorruptObjectError(f"pack {pack}: trailer is damaged")
    return open_table(keys, salt, tail[start : -_TRAILER.size], pack)


def open_table(keys: PackKeys, salt: bytes, sealed: bytes, pack: str) -> Sequence[PackRow]:
    """The rows of a pack from its sealed table, read by one ranged request.

    Raises:
        CorruptObjectError: it is damaged, cut, or of another pack.
    """
    _, plain = FrameOpener(keys, salt, pack).open(_TABLE_FRAME, "table", sealed)
    return [PackRow(bytes.fromhex(first), *rest) for first, *rest in json.loads(plain)]
