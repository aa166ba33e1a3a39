"""Cutting a file into blobs while it is read once, with its SHA-256 on the way.

Memory is one piece of `PIECE_BYTES` and one blob, whatever the size of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from fleet.backup import HEAD_BYTES, choose_chunker
from resources.vault.artefacts.port import OpenedFile

WHOLE_BYTES = 256 * 1024
"""A file up to this size is one blob."""
PIECE_BYTES = 4 * 1024 * 1024
"""Read at a time."""
_BLOCK_BYTES = 64 * 1024
_DUCKDB_HEADER_BYTES = 12_288
_DUCKDB_BLOCK_BYTES = 256 * 1024
"""DuckDB: three headers of 4 KiB, then blocks of 256 KiB (`Storage::BLOCK_START`)."""
_CDC_BYTES = (64 * 1024, 256 * 1024, 1024 * 1024)
"""Least, average and most bytes of a FastCDC blob."""


class ChunkedFile:
    """One pass over an opened file: blobs in order, then digest and size.

    Args:
        file: to be read from its beginning.
        declared: chunker that its artefact declares.
        before: chunker of the last backup; empty for none.
        size_bytes: as last seen; only a hint for the choice.
    """

    def __init__(self, file: OpenedFile, declared: str, before: str, size_bytes: int) -> None:
        """Nothing is read yet."""
        self._file = file
        self._declared = declared
        self._before = before
        self._hint_bytes = size_bytes
        self._hash = hashlib.sha256()
        self._held = b""
        self.chunker = ""
        self.size_bytes = 0

    @property
    def digest(self) -> bytes:
        """SHA-256 of what has been read."""
        return self._hash.digest()

    def blobs(self) -> Iterator[bytes]:
        """Every blob, in order; an empty file is one empty blob."""
        head = self._read(WHOLE_BYTES + 1)
        if len(head) <= WHOLE_BYTES:
            yield head
            return
        self._held = head
        size_bytes = max(self._hint_bytes, len(head))
        self.chunker = choose_chunker(head[:HEAD_BYTES], size_bytes, self._declared, self._before)
        if self.chunker == "fastcdc-256KiB":
            yield from self._by_content()
        elif self.chunker == "duckdb-256KiB":
            yield self.read(_DUCKDB_HEADER_BYTES)
            yield from self._fixed(_DUCKDB_BLOCK_BYTES)
        else:
            yield from self._fixed(_BLOCK_BYTES)

    def read(self, size: int, /) -> bytes:
        """Bytes for a chunker; shorter only at the end."""
        if not self._held:
            return self._read(size)
        data, self._held = self._held[:size], self._held[size:]
        return data + self._read(size - len(data)) if len(data) < size else data

    def readinto(self, buffer: memoryview) -> int:
        """For FastCDC."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        self.size_bytes += len(data)
        return data

    def _fixed(self, block: int) -> Iterator[bytes]:
        while piece := self.read(PIECE_BYTES):
            for start in range(0, len(piece), block):
                yield piece[start : start + block]

    def _by_content(self) -> Iterator[bytes]:
        from pyfastcdc import FastCDC

        least, average, most = _CDC_BYTES
        cutter = FastCDC(avg_size=average, min_size=least, max_size=most)
        for chunk in cutter.cut_stream(self):
            yield bytes(chunk.data)
