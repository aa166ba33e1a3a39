"""Indexes of FAISS on the processor.

FAISS computes on an OpenMP pool. A process that has used it and then forks leaves the child a pool
without threads, in which the next search would wait for ever; so from the first use on, a child of
a fork is given one thread before it does anything else. (Source: FAISS issue 5206; seen 3 of 3.)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from fleet.errors import CorruptObjectError, InvalidInputError, PermanentError
from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import Mask, Neighbours, Rows
from fleet.vectors.records import NO_ROW, IndexKind, IndexSpec, Metric
from resources.vectors.unit_vectors import check_vectors

TRAIN_ROWS_MIN = 65_536
"""Fewer vectors than this are all trained on: the ranges of 8-bit codes want many."""

_forks_guarded = threading.Event()


def load_faiss() -> Any:
    """The module `faiss`, with forks made safe.

    Raises:
        PermanentError: it cannot be imported, whatever the reason.
    """
    try:
        import faiss
    except Exception as error:
        raise PermanentError(
            f"faiss cannot be used ({type(error).__name__}: {error})",
            hint="Install one of the wheels faiss-cpu, faiss-gpu; they exclude each other.",
        ) from error
    if not _forks_guarded.is_set():
        _forks_guarded.set()
        os.register_at_fork(after_in_child=lambda: faiss.omp_set_num_threads(1))
    return faiss


class FaissIndex:
    """The `VectorIndex` port on an index of FAISS whose ids are row numbers."""

    def __init__(self, index: Any) -> None:
        """Take over an index.

        Raises:
            CorruptObjectError: it is of a type that this class does not build.
        """
        self._faiss = load_faiss()
        self._index = index
        self._is_l2 = index.metric_type == self._faiss.METRIC_L2
        self._width = int(index.d)
        self._ivf = self._faiss.try_extract_index_ivf(index)
        plain = self._faiss.downcast_index(index)
        self._refine = plain if hasattr(plain, "refine_index") else None
        self._graph = plain if hasattr(plain, "hnsw") else None
        self._flat = plain if self._ivf is None and self._graph is None else None
        if self._flat is not None and not hasattr(plain, "id_map"):
            raise CorruptObjectError(f"an index of type {type(plain).__name__} was not built here")
        self._selected: tuple[Mask, Any] | None = None
        self._parameters: dict[tuple[tuple[str, int], ...], Any] = {}

    @property
    def ntotal(self) -> int:
        """See `fleet.ports.VectorIndex.ntotal`."""
        return int(self._index.ntotal)

    @property
    def dimensions(self) -> int:
        """See `fleet.ports.VectorIndex.dimensions`."""
        return self._width

    @property
    def metric(self) -> Metric:
        """See `fleet.ports.VectorIndex.metric`."""
        return Metric.L2 if self._is_l2 else Metric.INNER_PRODUCT

    @property
    def kind(self) -> IndexKind:
        """Which family it belongs to."""
        if self._flat is not None:
            return IndexKind.FLAT
        return IndexKind.IVF if self._ivf is not None else IndexKind.HNSW

    def search(
        self, queries: Vectors, k: int, parameters: Mapping[str, int], mask: Mask | None = None
    ) -> Neighbours:
        """See `fleet.ports.VectorIndex.search`."""
        return self._ask(self._index, queries, k, self._searching(parameters, mask))

    def scan(self, queries: Vectors, k: int, mask: Mask) -> Neighbours:
        """See `fleet.ports.VectorIndex.scan`."""
        faiss = self._faiss
        plain = faiss.SearchParameters(sel=self._selector(mask))
        if self._graph is not None:
            return self._ask(self._graph.storage, queries, k, plain)
        if self._refine is not None:
            return self._ask(self._refine.refine_index, queries, k, plain)
        if self._ivf is not None:
            every = {"nprobe": int(self._ivf.nlist)}
            return self._ask(self._index, queries, k, self._searching(every, mask))
        return self._ask(self._index, queries, k, plain)

    def add(self, vectors: Vectors, rows: Rows) -> None:
        """See `fleet.ports.VectorIndex.add`."""
        matrix = check_vectors("vectors", vectors, self.dimensions)
        if len(rows) != len(matrix) or (len(rows) and (np.diff(rows) != 1).any()):
            raise InvalidInputError("rows", rows.shape, f"{len(matrix)} consecutive row numbers")
        if self._graph is not None or self._refine is not None:
            if len(rows) and int(rows[0]) != self.ntotal:
                raise InvalidInputError("rows", int(rows[0]), f"rows from {self.ntotal}")
            self._index.add(matrix)
        elif len(rows):
            self._index.add_with_ids(matrix, rows)

    def remove(self, rows: Rows) -> int:
        """See `fleet.ports.VectorIndex.remove`."""
        if self._graph is not None or self._refine is not None:
            raise PermanentError(
                f"an index of kind {self.kind} cannot remove {len(rows)} rows",
                hint="Mark them as dead; too many dead rows are a reason to rebuild.",
            )
        return int(self._index.remove_ids(np.ascontiguousarray(rows, np.int64)))

    def imbalance(self) -> float:
        """See `fleet.ports.VectorIndex.imbalance`."""
        if self._ivf is None or not self.ntotal:
            return 0.0
        return float(self._ivf.invlists.imbalance_factor())

    def save(self, path: str) -> None:
        """See `fleet.ports.VectorIndex.save`."""
        self._faiss.write_index(self._index, path)

    def _ask(self, index: Any, queries: Vectors, k: int, parameters: Any) -> Neighbours:
        matrix = check_vectors("queries", queries, self._width)
        if k < 1:
            raise InvalidInputError("k", k, "1 or more")
        k_found = min(k, max(1, self.ntotal))  # a heap of k is made per query, however few rows
        scores, rows = index.search(matrix, k_found, params=parameters)
        return padded(scores, rows, k, self.metric)

    def _searching(self, parameters: Mapping[str, int], mask: Mask | None) -> Any:
        """FAISS's own object for parameters; the last selector and all parameters are kept."""
        key = tuple(parameters.items())
        if mask is None and key in self._parameters:
            return self._parameters[key]
        made = self._make(dict(parameters), None if mask is None else self._selector(mask))
        if mask is None:
            self._parameters[key] = made
        return made

    def _make(self, parameters: dict[str, int], selector: Any) -> Any:
        faiss = self._faiss
        chosen = {} if selector is None else {"sel": selector}
        if self._graph is not None:
            return faiss.SearchParametersHNSW(
                efSearch=parameters.get("efSearch", faiss.HNSW().efSearch), **chosen
            )
        if self._ivf is None:
            return faiss.SearchParameters(**chosen)
        lists = faiss.SearchParametersIVF(nprobe=parameters.get("nprobe", 1), **chosen)
        if self._refine is None:
            return lists
        return faiss.IndexRefineSearchParameters(
            k_factor=float(parameters.get("k_factor", 1)), base_index_params=lists
        )

    def _selector(self, mask: Mask) -> Any:
        """A bitmap of FAISS for a mask; the one of the same mask object is used again."""
        held = self._selected
        if held is None or held[0] is not mask:
            held = (mask, self._faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little")))
            self._selected = held
        return held[1]


def padded(scores: Any, rows: Any, k: int, metric: Metric) -> Neighbours:
    """FAISS's answer as the port gives it: k wide, more is better, -inf for nothing.

    Args:
        scores: distances or products, best first.
        rows: -1 where nothing was found.
        k: wanted width.
        metric: of the scores.
    """
    if metric is Metric.L2:
        scores = -scores
    short = k - rows.shape[1]
    if rows.size and rows.min() == NO_ROW:
        scores = np.where(rows == NO_ROW, np.float32(-np.inf), scores)
    if short > 0:
        scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
        rows = np.pad(rows, ((0, 0), (0, short)), constant_values=NO_ROW)
    return Neighbours(scores, rows)


class FaissBackend:
    """The `IndexBackend` port on FAISS.

    Args:
        threads: of a build or a batch search; None: as many as FAISS takes by itself.
    """

    def __init__(self, threads: int | None = None) -> None:
        """Nothing is imported yet."""
        self._threads = threads

    @property
    def name(self) -> str:
        """See `fleet.ports.IndexBackend.name`."""
        return f"faiss {load_faiss().__version__}"

    def build(self, spec: IndexSpec, vectors: Vectors, metric: Metric, seed: int) -> FaissIndex:
        """See `fleet.ports.IndexBackend.build`."""
        faiss = load_faiss()
        matrix = check_vectors("vectors", vectors, vectors.shape[-1])
        factory = f"IDMap2,{spec.factory}" if spec.kind is IndexKind.FLAT else spec.factory
        try:
            index = faiss.index_factory(matrix.shape[1], factory, metric_of(faiss, metric))
        except RuntimeError as error:
            raise InvalidInputError("index.factory", spec.factory, "a factory text") from error
        configure_index(faiss, index, spec, seed)
        with self._computing(faiss):
            if not index.is_trained:
                index.train(training_rows(faiss, index, spec, matrix, seed))
            built = FaissIndex(index)
            built.add(matrix, np.arange(len(matrix), dtype=np.int64))
        return built

    def open(self, path: str, *, writable: bool = False) -> FaissIndex:
        """See `fleet.ports.IndexBackend.open`."""
        faiss = load_faiss()
        try:
            return FaissIndex(faiss.read_index(path, 0 if writable else faiss.IO_FLAG_MMAP_IFC))
        except (RuntimeError, MemoryError, AssertionError, ValueError) as error:
            reason = str(error).strip().rpartition("\n")[2]
            raise CorruptObjectError(f"{path} is no FAISS index: {reason}") from error

    def exact(
        self, vectors: Vectors, queries: Vectors, k: int, metric: Metric, mask: Mask | None = None
    ) -> Neighbours:
        """See `fleet.ports.IndexBackend.exact`."""
        faiss = load_faiss()
        base = check_vectors("vectors", vectors, vectors.shape[-1])
        asked = check_vectors("queries", queries, base.shape[1])
        if k < 1:
            raise InvalidInputError("k", k, "1 or more")
        kept = None if mask is None else np.flatnonzero(mask)
        base = base if kept is None else base[kept]
        width = min(k, len(base))
        if not width or not len(asked):
            empty = np.full((len(asked), 0), NO_ROW, np.int64)
            return padded(empty.astype(np.float32), empty, k, metric)
        with self._computing(faiss):
            scores, rows = faiss.knn(asked, base, width, metric_of(faiss, metric))
        order = np.lexsort((rows, scores if metric is Metric.L2 else -scores), axis=1)
        scores = np.take_along_axis(scores, order, 1)
        rows = np.take_along_axis(rows, order, 1)
        return padded(scores, rows if kept is None else kept[rows], k, metric)

    @contextmanager
    def _computing(self, faiss: Any) -> Iterator[None]:
        """The number of threads, for this thread's calls only."""
        before = faiss.omp_get_max_threads()
        if self._threads is not None:
            faiss.omp_set_num_threads(self._threads)
        try:
            yield
        finally:
            faiss.omp_set_num_threads(before)


def metric_of(faiss: Any, metric: Metric) -> Any:
    """FAISS's own name of a metric."""
    return faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT


def configure_index(faiss: Any, index: Any, spec: IndexSpec, seed: int) -> None:
    """Hand seeds and parameters of building to a new index."""
    plain = faiss.downcast_index(index)
    if hasattr(plain, "hnsw"):
        plain.hnsw.efConstruction = spec.build.get("efConstruction", plain.hnsw.efConstruction)
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        ivf.cp.seed = seed % 2**31
        ivf.cp.max_points_per_centroid = spec.build.get("train_points_per_list", 64)


def training_rows(faiss: Any, index: Any, spec: IndexSpec, matrix: Vectors, seed: int) -> Vectors:
    """As many vectors as k-means looks at, drawn evenly; all of a small matrix."""
    ivf = faiss.try_extract_index_ivf(index)
    wanted = TRAIN_ROWS_MIN
    if ivf is not None:
        wanted = max(wanted, int(ivf.nlist) * spec.build.get("train_points_per_list", 64))
    if len(matrix) <= wanted:
        return matrix
    drawn = np.random.default_rng(seed).choice(len(matrix), size=wanted, replace=False)
    drawn.sort()
    return matrix[drawn]
