"""Which blobs a manifest holds, and where: sixteen bytes a row in place of a dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resources.vault.packs.arrow_columns import fixed_words, numbers, strings, text
from resources.vault.packs.blob_places import StoredBlob
from resources.vault.packs.manifest import kernels


class BlobIndex:
    """Finds blobs of one row kind in packs that may be referenced.

    Frames are bound to the kind of their rows, so a blob of another kind is of no use. Blob ids
    are keyed hashes: their first eight bytes sort them, the rest is compared.

    Args:
        table: rows of a manifest.
        kind: of the rows to look at.
        refused: packs that must not be referenced.
    """

    def __init__(self, table: Any, kind: str, refused: frozenset[str]) -> None:
        """Sort the rows once."""
        import numpy as np

        pc = kernels()
        usable = pc.equal(table["kind"], text(kind))
        if refused:
            lost = pc.is_in(table["pack"], value_set=strings(sorted(refused)))
            usable = pc.and_(usable, pc.invert(lost))
        rows = table.select(["blob_id", *StoredBlob._fields])
        # Mostly all are usable, and then the manifest's own columns serve.
        all_usable = pc.all(usable, min_count=0).as_py()
        self._rows = rows if all_usable else rows.filter(usable)
        none = np.empty(0, np.uint64)
        words = fixed_words(self._rows["blob_id"])[:, 0].copy() if len(self._rows) else none
        self._order = np.argsort(words, kind="stable")
        self._words = words[self._order]

    def find(self, blob_ids: Sequence[bytes]) -> dict[bytes, StoredBlob]:
        """Those of these blobs that are there."""
        import numpy as np

        if not len(self._words) or not blob_ids:
            return {}
        wanted = np.frombuffer(b"".join(blob_ids), np.uint64)[::4]
        at = np.minimum(np.searchsorted(self._words, wanted), len(self._words) - 1)
        hits = np.flatnonzero(self._words[at] == wanted)
        if not len(hits):
            return {}
        rows = self._rows.take(numbers(self._order[at[hits]])).to_pylist()
        found = {}
        for number, row in zip(hits.tolist(), rows, strict=True):
            blob_id = row.pop("blob_id")
            # Two ids with equal first words (one chance in 10^7 among 10^6): stored once more.
            if blob_id == blob_ids[number]:
                found[blob_id] = StoredBlob(**row)
        return found
