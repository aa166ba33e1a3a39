"""An index with deltas beside it: asked together, answered as one.

What is beside is compared one by one, so notes that came later are always found; scores of the
index are those of its codes, rounded to 8 bits, which moves a neighbour by a place at most seldom.
Beside codes of unit vectors halves do, whose rounding is less by far: a third of the time and half
of the memory. Beside exact vectors, and where numbers may be too large for halves, all digits stay.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import (
    IndexBackend,
    Mask,
    Neighbours,
    Rows,
    SearchableIndex,
    VectorIndex,
)
from fleet.vectors.records import NO_ROW, IndexKind, IndexManifest, IndexSpec, Metric

_BESIDE = IndexSpec(IndexKind.FLAT, "Flat", {}, ({},), True, "notes beside the index file")
_BESIDE_CODES = _BESIDE._replace(factory="SQfp16")


class DeltaIndex:
    """A `SearchableIndex` over an index file and the vectors of its deltas.

    Args:
        index: of rows 0 to `index_rows` - 1; some of them may have been removed.
        beside: of the rows from `index_rows` on, numbered from 0.
        index_rows: row numbers of the index file.
    """

    def __init__(self, index: VectorIndex, beside: VectorIndex, index_rows: int) -> None:
        """Nothing is computed yet."""
        self._index = index
        self._beside = beside
        self._index_rows = index_rows
        self._split: tuple[Mask, Mask | None, Mask | None] | None = None

    @property
    def ntotal(self) -> int:
        """See `fleet.ports.SearchableIndex.ntotal`."""
        return self._index.ntotal + self._beside.ntotal

    def search(
        self, queries: Vectors, k: int, parameters: Mapping[str, int], mask: Mask | None = None
    ) -> Neighbours:
        """See `fleet.ports.SearchableIndex.search`."""
        inside, outside = self._masks(mask)
        found = self._index.search(queries, k, parameters, inside)
        return self._joined(found, self._beside.search(queries, k, {}, outside), k)

    def scan(self, queries: Vectors, k: int, mask: Mask) -> Neighbours:
        """See `fleet.ports.SearchableIndex.scan`."""
        inside, outside = mask[: self._index_rows], mask[self._index_rows :]
        found = self._index.scan(queries, k, inside)
        return self._joined(found, self._beside.scan(queries, k, outside), k)

    def _masks(self, mask: Mask | None) -> tuple[Mask | None, Mask | None]:
        """A mask's two parts; None where a part shuts nobody out. The last one is remembered."""
        if mask is None:
            return None, None
        held = self._split
        if held is None or held[0] is not mask:
            parts = mask[: self._index_rows], mask[self._index_rows :]
            totals = self._index.ntotal, self._beside.ntotal
            inside, outside = (
                None if np.count_nonzero(part) == total else part
                for part, total in zip(parts, totals, strict=True)
            )
            held = (mask, inside, outside)
            self._split = held
        return held[1], held[2]

    def _joined(self, found: Neighbours, beside: Neighbours, k: int) -> Neighbours:
        """The k best of two answers; of equals that of the index stands first."""
        later = np.where(beside.rows == NO_ROW, NO_ROW, beside.rows + self._index_rows)
        scores = np.hstack((found.scores, beside.scores))
        rows: Rows = np.hstack((found.rows, later))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return Neighbours(np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1))


def with_deltas(
    backend: IndexBackend, index: VectorIndex, vectors: Vectors, manifest: IndexManifest
) -> SearchableIndex:
    """An index together with vectors of later rows; the index itself when there are none.

    Args:
        backend: holds the vectors for comparison.
        index: opened.
        vectors: of the rows behind those of the index file, in order.
        manifest: of the index.
    """
    if not len(vectors):
        return index
    metric = manifest.model.metric
    is_coded = metric is Metric.COSINE and manifest.kind is not IndexKind.FLAT
    beside = backend.build(_BESIDE_CODES if is_coded else _BESIDE, vectors, metric, 0)
    return DeltaIndex(index, beside, manifest.index_rows)
