"""What is known of items before their packs are stored: columns, not one object for each item.

Nor one for each batch: an object that stays keeps the memory in which it lies, a mebibyte of it,
from being given back, and a network of a million agents has a thousand batches.
"""

from __future__ import annotations

from array import array
from typing import Any

from fleet.packed_texts import TextPacker
from resources.vault.packs.arrow_columns import numbers, packed_bytes, strings


class ItemColumns:
    """Rows of a manifest without the places of their blobs; not thread-safe."""

    def __init__(self) -> None:
        """No item yet."""
        self._item_ids = TextPacker()
        self._versions = array("q")
        self._chunks = array("i")
        self._moments_us = array("q")
        self._digests = bytearray()
        self._blobs = array("q")

    def __len__(self) -> int:
        return len(self._blobs)

    def add(
        self, item_id: str, version: int, chunk: int, updated_us: int, digest: bytes, blob: int
    ) -> None:
        """The next one.

        Args:
            item_id: of the agent.
            version: of its state.
            chunk: number of the blob in it.
            updated_us: when it was stored, in microseconds since 1970.
            digest: SHA-256 of the whole state.
            blob: number of the blob, as `BlobPlaces` gives it.
        """
        self._item_ids.add(item_id)
        self._versions.append(version)
        self._chunks.append(chunk)
        self._moments_us.append(updated_us)
        self._digests += digest
        self._blobs.append(blob)

    def columns(self) -> tuple[dict[str, Any], Any]:
        """The columns by their names in a manifest, and the numbers of the blobs for NumPy.

        Nothing is copied, so add nothing afterwards.
        """
        import numpy as np
        import pyarrow as pa

        columns = {
            "item_id": strings(self._item_ids.packed()),
            "version": numbers(self._versions),
            "chunk": numbers(self._chunks, pa.int32()),
            "updated_at": numbers(self._moments_us, pa.timestamp("us", tz="UTC")),
            "digest": packed_bytes(self._digests, 32),
        }
        return columns, np.frombuffer(self._blobs, np.int64)
