"""Exact search by torch: half-precision products on a device, the best of them again in full.

A GPU multiplies a million vectors with a thousand questions faster than an index is walked, so on a
GPU exact search is the index up to some ten million vectors. Half precision orders neighbours that
lie close together wrongly; therefore four times as many as wanted are kept and compared again in
float32, and the result is that of exact search on the processor.

Index files are FAISS's: what was built here is read everywhere.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fleet.errors import InvalidInputError, PermanentError
from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import Mask, Neighbours, Rows, VectorIndex
from fleet.vectors.records import NO_ROW, IndexSpec, Metric
from resources.vectors.faiss_backend import FaissBackend, padded
from resources.vectors.unit_vectors import check_vectors

CANDIDATES = 4
"""Times k that are compared again in float32."""
CANDIDATES_MIN = 64
"""At least so many, because equal notes crowd around small k."""
BUDGET_BYTES = 2 * 1024**3
"""Of a block of scores; with the database in half precision this is what a search takes."""
QUERIES_AT_ONCE = 1024


def load_torch() -> Any:
    """The module `torch`.

    Raises:
        PermanentError: it cannot be imported, whatever the reason.
    """
    try:
        import torch  # type: ignore[import-not-found,unused-ignore]
    except Exception as error:
        raise PermanentError(
            f"torch cannot be used ({type(error).__name__}: {error})",
            hint="Install torch for this machine's driver, or use the backend `faiss`.",
        ) from error
    return torch


class TorchExact:
    """A database of vectors on a device, searched by comparing with all of them.

    One search at a time: a lock stands around the device.

    Args:
        vectors: (rows, dimensions) on the processor; they stay there for the second comparison.
        metric: inner product (also of unit vectors, for cosine) or L2.
        device: `cuda`, `cuda:1`, `cpu`.
        budget_bytes: of a block of scores on the device.
        half: `float16`, or `bfloat16` for values above 65,504.
    """

    def __init__(
        self,
        vectors: Vectors,
        metric: Metric,
        device: str,
        *,
        budget_bytes: int = BUDGET_BYTES,
        half: str = "float16",
    ) -> None:
        """Copy the vectors to the device in half precision."""
        torch = self._torch = load_torch()
        self._vectors = check_vectors("vectors", vectors, vectors.shape[-1])
        self._is_l2 = metric is Metric.L2
        self._metric = metric
        self._device = device
        self._budget_bytes = budget_bytes
        self._half = getattr(torch, half)
        self._lock = threading.Lock()
        self._rows = torch.from_numpy(self._vectors).to(device, self._half)
        self._squares = torch.from_numpy(np.einsum("ij,ij->i", self._vectors, self._vectors)).to(
            device
        )

    @property
    def size_bytes(self) -> int:
        """What the database takes on the device."""
        count, width = self._vectors.shape
        return int(count * (2 * width + 4))

    def search(self, queries: Vectors, k: int, mask: Mask | None = None) -> Neighbours:
        """The true k nearest rows of each query; arguments and errors as of `IndexBackend.exact`.

        Raises:
            RuntimeError: as torch says it, of the device; `resources.vectors.backends` answers it.
        """
        asked = check_vectors("queries", queries, self._vectors.shape[1])
        if k < 1:
            raise InvalidInputError("k", k, "1 or more")
        count = len(self._vectors)
        width = min(count, max(CANDIDATES * k, CANDIDATES_MIN))
        if not count or not len(asked):
            empty = np.full((len(asked), 0), NO_ROW, np.int64)
            return padded(empty.astype(np.float32), empty, k, Metric.INNER_PRODUCT)
        with self._lock, self._torch.inference_mode():
            kept = None if mask is None else self._torch.from_numpy(mask).to(self._device)
            found = [self._candidates(block, width, kept) for block in _blocks(asked)]
        return self._ranked(asked, np.concatenate(found), k)

    def _candidates(self, queries: Vectors, width: int, kept: Any) -> Rows:
        """Rows of the best half-precision scores, (queries, width); -1 for none."""
        torch = self._torch
        asked = torch.from_numpy(queries).to(self._device, self._half)
        best_scores: Any = None
        best_rows: Any = None
        step = max(width, self._budget_bytes // (8 * len(queries)))
        for start in range(0, len(self._vectors), step):
            span = slice(start, start + step)
            scores = (asked @ self._rows[span].T).float()
            if self._is_l2:
                scores = 2.0 * scores - self._squares[span]
            if kept is not None:
                scores.masked_fill_(~kept[span], -torch.inf)
            top, places = scores.topk(min(width, scores.shape[1]), dim=1)
            places += start
            if best_scores is not None:
                top = torch.cat((best_scores, top), dim=1)
                places = torch.cat((best_rows, places), dim=1)
                top, order = top.topk(min(width, top.shape[1]), dim=1)
                places = places.gather(1, order)
            best_scores, best_rows = top, places
        best_rows.masked_fill_(best_scores == -torch.inf, NO_ROW)
        return np.asarray(best_rows.cpu().numpy(), np.int64)

    def _ranked(self, queries: Vectors, rows: Rows, k: int) -> Neighbours:
        """Compare the candidates again in float32, on the processor; ties by the lower row."""
        scores = np.empty(rows.shape, np.float32)
        for place, (query, near) in enumerate(zip(queries, rows, strict=True)):
            found = self._vectors[near]
            if self._is_l2:
                scores[place] = -((found - query) ** 2).sum(axis=1)
            else:
                scores[place] = found @ query
        scores[rows == NO_ROW] = -np.inf
        order = np.lexsort((rows, -scores), axis=1)[:, :k]
        return padded(
            np.take_along_axis(scores, order, 1),
            np.take_along_axis(rows, order, 1),
            k,
            Metric.INNER_PRODUCT,
        )


class TorchBackend:
    """The `IndexBackend` port that searches exactly by torch, and leaves indexes to FAISS.

    Args:
        device: `cuda`, `cuda:1`, `cpu`.
        faiss: builds and opens indexes.
        budget_bytes: of a block of scores on the device.
    """

    def __init__(
        self,
        device: str = "cuda",
        faiss: FaissBackend | None = None,
        budget_bytes: int = BUDGET_BYTES,
    ) -> None:
        """Nothing is imported yet."""
        self._device = device
        self._faiss = faiss or FaissBackend()
        self._budget_bytes = budget_bytes

    @property
    def name(self) -> str:
        """See `fleet.ports.IndexBackend.name`."""
        return f"{self._faiss.name}, exact by torch {load_torch().__version__} on {self._device}"

    def build(self, spec: IndexSpec, vectors: Vectors, metric: Metric, seed: int) -> VectorIndex:
        """See `fleet.ports.IndexBackend.build`."""
        return self._faiss.build(spec, vectors, metric, seed)

    def open(self, path: str, *, writable: bool = False) -> VectorIndex:
        """See `fleet.ports.IndexBackend.open`."""
        return self._faiss.open(path, writable=writable)

    def exact(
        self, vectors: Vectors, queries: Vectors, k: int, metric: Metric, mask: Mask | None = None
    ) -> Neighbours:
        """See `fleet.ports.IndexBackend.exact`; vectors are on the device for this call only."""
        database = TorchExact(vectors, metric, self._device, budget_bytes=self._budget_bytes)
        return database.search(queries, k, mask)


def _blocks(queries: Vectors) -> Iterator[Vectors]:
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        yield queries[start : start + QUERIES_AT_ONCE]


def needed_bytes(rows: int, dimensions: int, queries: int, budget_bytes: int) -> Mapping[str, int]:
    """What a search takes on a device, by purpose; their sum is asked of `GpuLeases`.

    Args:
        rows: of the database.
        dimensions: of each.
        queries: at once.
        budget_bytes: of a block of scores.

    Source: a CUDA context takes 300 to 500 MB; scores are held twice while the best are chosen.
    """
    block = min(queries, QUERIES_AT_ONCE)
    return {
        "database": rows * (2 * dimensions + 4),
        "queries": block * dimensions * 2,
        "scores": min(budget_bytes, 8 * block * rows),
        "context": 512 * 1024**2,
    }
