"""Where the blobs of one writer lie, in few bytes each: a whole network's are in memory at once."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

from resources.vault.packs.arrow_columns import numbers, strings


class StoredBlob(NamedTuple):
    """Where a blob lies."""

    pack: str
    frame: int
    offset: int
    length: int
    plain_length: int


_NUMBERS = len(StoredBlob._fields)
_UNKNOWN = (-1, 0, 0, 0, 0)


class BlobPlaces:
    """Numbers blobs as they come, and remembers where each lies; not thread-safe."""

    def __init__(self) -> None:
        """No blob yet."""
        self._number_of: dict[bytes, int] = {}
        self._values = array("q")
        """For each blob the number of its pack (-1 before it is stored), then as `StoredBlob`."""
        self._packs: list[str] = []
        self._pack_number: dict[str, int] = {}

    def claim(self, blob_id: bytes) -> bool:
        """Whether a blob is new: whoever is told so has to store it."""
        number = len(self._number_of)
        if self._number_of.setdefault(blob_id, number) != number:
            return False
        self._values.extend(_UNKNOWN)
        return True

    def put(self, blob_id: bytes, place: StoredBlob) -> None:
        """A blob lies there."""
        self.claim(blob_id)
        pack = self._pack_number.setdefault(place.pack, len(self._packs))
        if pack == len(self._packs):
            self._packs.append(place.pack)
        at = self._number_of[blob_id] * _NUMBERS
        self._values[at : at + _NUMBERS] = array("q", (pack, *place[1:]))

    def number(self, blob_id: bytes) -> int:
        """Of a blob that was claimed or put."""
        return self._number_of[blob_id]

    def find(self, blob_id: bytes) -> StoredBlob:
        """Where a blob lies that was put."""
        at = self._number_of[blob_id] * _NUMBERS
        pack, *rest = self._values[at : at + _NUMBERS]
        return StoredBlob(self._packs[pack], *rest)

    def columns(self, chosen: Any) -> dict[str, Any]:
        """The places of blobs as Arrow columns, named as in `StoredBlob`.

        Args:
            chosen: numbers of blobs that were put, as a NumPy array of int64.
        """
        import numpy as np

        places = np.frombuffer(self._values, np.int64).reshape(-1, _NUMBERS)[chosen]
        packs = strings(self._packs)
        rest: Sequence[str] = StoredBlob._fields[1:]
        return {
            "pack": packs.take(numbers(places[:, 0])),
            **{name: numbers(places[:, column]) for column, name in enumerate(rest, 1)},
        }
