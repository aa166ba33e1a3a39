"""A library that builds and searches indexes of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fleet.ports.embedder import Vectors
from fleet.vectors.records import IndexSpec, Metric

Rows = npt.NDArray[np.int64]
"""Row numbers: dense, from 0, given out once; `NO_ROW` where there is none."""
Mask = npt.NDArray[np.bool_]
"""(rows,): which rows may be found."""


class Neighbours(NamedTuple):
    """What a search found, (queries, k) each, best first."""

    scores: npt.NDArray[np.float32]
    """More is better, whatever the metric; -inf where nothing was found."""
    rows: Rows
    """`NO_ROW` where fewer than k were found."""


class SearchableIndex(Protocol):
    """What answers a question: an index, or an index with what came after it."""

    @property
    def ntotal(self) -> int:
        """Vectors inside, those marked dead included."""
        ...

    def search(
        self, queries: Vectors, k: int, parameters: Mapping[str, int], mask: Mask | None = None
    ) -> Neighbours:
        """The k nearest rows of each query.

        Args:
            queries: (queries, dimensions), finite.
            k: 1 or more; more than there are rows is no error.
            parameters: of search, as tuned (`nprobe`, `efSearch`, `k_factor`).
            mask: rows that may be found; None: all of them.

        Raises:
            InvalidInputError: wrong dimension, NaN or infinity, k below 1.
        """
        ...

    def scan(self, queries: Vectors, k: int, mask: Mask) -> Neighbours:
        """The k nearest among the rows of a mask, comparing with each of them as it is stored.

        Exact up to the rounding of stored codes; arguments and errors as of `search`.
        """
        ...


class VectorIndex(SearchableIndex, Protocol):
    """An index in memory, or mapped from a file. One writer at a time, never beside a search."""

    @property
    def dimensions(self) -> int:
        """Of each vector."""
        ...

    @property
    def metric(self) -> Metric:
        """As the file says; an index of unit vectors under inner product says `inner_product`."""
        ...

    def add(self, vectors: Vectors, rows: Rows) -> None:
        """Add vectors under new row numbers.

        Raises:
            InvalidInputError: wrong dimension, NaN or infinity, rows that are not the next ones.
        """
        ...

    def remove(self, rows: Rows) -> int:
        """Remove rows; how many were there.

        Raises:
            PermanentError: this kind cannot; mark the rows as dead instead.
        """
        ...

    def imbalance(self) -> float:
        """IVF: imbalance factor of the lists (1 is even); 0 for other kinds."""
        ...

    def save(self, path: str) -> None:
        """Write the index to a new file; neither synced nor renamed."""
        ...


class IndexBackend(Protocol):
    """Builds and opens indexes."""

    @property
    def name(self) -> str:
        """For manifests: `faiss-cpu 1.15.1`, ..."""
        ...

    def build(self, spec: IndexSpec, vectors: Vectors, metric: Metric, seed: int) -> VectorIndex:
        """Train an index and add vectors as rows 0, 1, ...; the same input gives the same index.

        Raises:
            InvalidInputError: NaN or infinity in the vectors, or a spec that cannot be.
        """
        ...

    def open(self, path: str, *, writable: bool = False) -> VectorIndex:
        """Open an index file whose checksum was verified.

        Args:
            path: of the file. It must stay unchanged until the index is dropped.
            writable: read into memory, to be changed; otherwise mapped, shared by all processes.

        Raises:
            CorruptObjectError: it is no index that this library reads.
        """
        ...

    def exact(
        self, vectors: Vectors, queries: Vectors, k: int, metric: Metric, mask: Mask | None = None
    ) -> Neighbours:
        """The true k nearest rows of each query, by comparing with every vector.

        Equal scores stand in the order of rows; which of several that are as far as the k-th are
        in the answer is not said.

        Raises:
            InvalidInputError: wrong dimension, NaN or infinity, k below 1.
        """
        ...
