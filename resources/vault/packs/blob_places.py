"""Where the blobs of one writer lie, in few bytes each: a whole network's are in memory at once."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

from resources.vault.packs.arrow_columns import numbers, packed_bytes, strings


class StoredBlob(NamedTuple):
    """Where a blob lies."""

    pack: str
    frame: int
    offset: int
    length: int
    plain_length: int


_KEY_BYTES = 32
_NUMBERS = len(StoredBlob._fields)
_UNKNOWN = (-1, 0, 0, 0, 0)
_SLOTS_LEAST = 1024
"""A power of two, as the table doubles."""


class BlobPlaces:
    """Numbers blobs as they come, and remembers where each lies; not thread-safe.

    Blob ids are keyed hashes, so their first bytes are the hash of a table with open addressing:
    90 bytes a blob, where a dictionary of objects takes 230.
    """

    def __init__(self) -> None:
        """No blob yet."""
        self._keys = bytearray()
        """Blob ids in the order of their numbers."""
        self._slots = array("I", bytes(4 * _SLOTS_LEAST))
        """Number of a blob and one, by its first bytes; 0 where there is none."""
        self._values = array("q")
        """For each blob the number of its pack (-1 before it is stored), then as `StoredBlob`."""
        self._packs: list[str] = []
        self._pack_number: dict[str, int] = {}

    def claim(self, blob_id: bytes) -> bool:
        """Whether a blob is new: whoever is told so has to store it."""
        slot = self._slot(blob_id)
        if self._slots[slot]:
            return False
        self._keys += blob_id
        self._values.extend(_UNKNOWN)
        count = len(self._keys) // _KEY_BYTES
        self._slots[slot] = count
        if 3 * count > 2 * len(self._slots):
            self._grow(count)
        return True

    def _slot(self, blob_id: bytes) -> int:
        """Where in the table a blob stands, or would stand."""
        slots, keys, mask = self._slots, self._keys, len(self._slots) - 1
        slot = int.from_bytes(blob_id[:8], "little") & mask
        while number := slots[slot]:
            if keys[(number - 1) * _KEY_BYTES : number * _KEY_BYTES] == blob_id:
                break
            slot = (slot + 1) & mask
        return slot

    def _grow(self, count: int) -> None:
        slots = array("I", bytes(8 * len(self._slots)))
        keys, mask = self._keys, len(slots) - 1
        for number in range(count):
            start = number * _KEY_BYTES
            slot = int.from_bytes(keys[start : start + 8], "little") & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = number + 1
        self._slots = slots

    def put(self, blob_id: bytes, place: StoredBlob) -> None:
        """A blob lies there."""
        self.claim(blob_id)
        pack = self._pack_number.setdefault(place.pack, len(self._packs))
        if pack == len(self._packs):
            self._packs.append(place.pack)
        at = self.number(blob_id) * _NUMBERS
        self._values[at : at + _NUMBERS] = array("q", (pack, *place[1:]))

    def number(self, blob_id: bytes) -> int:
        """Of a blob that was claimed or put."""
        number = self._slots[self._slot(blob_id)]
        if not number:
            raise KeyError(blob_id)
        return number - 1

    def find(self, blob_id: bytes) -> StoredBlob:
        """Where a blob lies that was put."""
        at = self.number(blob_id) * _NUMBERS
        pack, *rest = self._values[at : at + _NUMBERS]
        return StoredBlob(self._packs[pack], *rest)

    def columns(self, chosen: Any) -> dict[str, Any]:
        """Ids and places of blobs as Arrow columns, named as in a manifest.

        Args:
            chosen: numbers of blobs that were put, as a NumPy array of int64.
        """
        import numpy as np

        places = np.frombuffer(self._values, np.int64).reshape(-1, _NUMBERS)
        keys = np.frombuffer(self._keys, f"V{_KEY_BYTES}")
        packs = strings(self._packs)
        rest: Sequence[str] = StoredBlob._fields[1:]
        return {
            "blob_id": packed_bytes(keys[chosen], _KEY_BYTES),
            "pack": packs.take(numbers(places[chosen, 0])),
            **{name: numbers(places[chosen, column]) for column, name in enumerate(rest, 1)},
        }
