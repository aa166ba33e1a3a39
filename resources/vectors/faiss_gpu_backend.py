"""Lists trained and filled by FAISS on a GPU, and exact search there; files are the processor's.

What a GPU builds is brought back (`index_gpu_to_cpu`) before anybody else sees it: index files are
read on every machine. Only lists of plain or 8-bit codes are built there; graphs and codes of bits
are left to the processor.

FAISS's GPU part is a wheel of its own (`docs/gpu.md` names it) that takes the place of `faiss-cpu`;
it is imported when it is first used, and may fail in ways that are no ImportError. Memory that
cannot be had is a RuntimeError; other errors of CUDA end the process from inside FAISS, and no
Python can stop that: the run is reported as dead, its lease runs out, nothing was published.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from fleet.errors import InvalidInputError
from fleet.gpu_memory import CONTEXT_BYTES, MIB
from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import IndexBackend, Mask, Neighbours, VectorIndex
from fleet.vectors.records import NO_ROW, IndexKind, IndexSpec, Metric
from resources.vectors.device_backend import DeviceBackend
from resources.vectors.exact_ranking import no_neighbours, rank_exactly
from resources.vectors.faiss_backend import (
    FaissIndex,
    configure_index,
    load_faiss,
    metric_of,
    training_rows,
)
from resources.vectors.unit_vectors import check_vectors

TEMP_BYTES = 256 * MIB
"""Scratch memory of FAISS, which would take 1.5 GiB by itself."""

K_MAX = 2048
"""Most neighbours that FAISS selects on a GPU. Source: `GPU_MAX_SELECTION_K`."""

_ON_GPU = re.compile(r"IVF\d+,(SQ8|Flat)")
"""Factories whose lists FAISS builds on a GPU."""

DIMENSIONS_MAX = 4096
"""Of lists that are built on a GPU. Source: the ranges of 8-bit codes, 8 bytes a dimension, lie in
a block's shared memory, which is 48 KiB on the smallest."""

_QUERIES_SHARE = 8
"""Part of the memory for vectors that questions and their answers may take."""


class FaissGpuBackend(DeviceBackend):
    """The `IndexBackend` port on FAISS with one GPU. One piece of work at a time: a lock is held.

    Args:
        device: number of the GPU, as CUDA counts.
        processor: builds what the GPU cannot, and opens.
        memory_bytes: what may be taken of the GPU, CUDA's context included; None: all that is free.
        load: gives the module `faiss`.
    """

    def __init__(
        self,
        device: int = 0,
        processor: IndexBackend | None = None,
        memory_bytes: int | None = None,
        load: Callable[[], Any] = load_faiss,
    ) -> None:
        """Nothing is imported yet."""
        super().__init__(processor)
        self._device = device
        self._memory_bytes = memory_bytes
        self._load = load
        self._lock = threading.Lock()
        self._resources: Any = None

    @property
    def name(self) -> str:
        """See `fleet.ports.IndexBackend.name`."""
        return f"faiss {self._load().__version__} on GPU {self._device}"

    def builds(self, spec: IndexSpec, dimensions: int) -> bool:
        """Whether such an index is built on the GPU."""
        return (
            spec.kind is IndexKind.IVF
            and dimensions <= DIMENSIONS_MAX
            and _ON_GPU.fullmatch(spec.factory) is not None
        )

    def build(self, spec: IndexSpec, vectors: Vectors, metric: Metric, seed: int) -> VectorIndex:
        """See `DeviceBackend.build`."""
        if not self.builds(spec, vectors.shape[-1]):
            return super().build(spec, vectors, metric, seed)
        faiss = self._load()
        matrix = check_vectors("vectors", vectors, vectors.shape[-1])
        empty = faiss.index_factory(matrix.shape[1], spec.factory, metric_of(faiss, metric))
        configure_index(faiss, empty, spec, seed)
        trained_on = training_rows(faiss, empty, spec, matrix, seed)
        with self._lock:
            options = faiss.GpuClonerOptions()
            options.reserveVecs = len(matrix)
            index = faiss.index_cpu_to_gpu(self._ready(faiss), self._device, empty, options)
            _hand_over(faiss, empty, index)
            index.train(trained_on)
            index.add_with_ids(matrix, np.arange(len(matrix), dtype=np.int64))
            return FaissIndex(faiss.index_gpu_to_cpu(index))

    def exact(
        self,
        vectors: Vectors,
        queries: Vectors,
        k: int,
        metric: Metric,
        mask: Mask | None = None,
        *,
        share: float = 1.0,
    ) -> Neighbours:
        """See `DeviceBackend.exact`; vectors go over the device in blocks that fit.

        More than `K_MAX` neighbours are left to the processor.
        """
        faiss = self._load()
        base = check_vectors("vectors", vectors, vectors.shape[-1])
        asked = check_vectors("queries", queries, base.shape[1])
        if k < 1:
            raise InvalidInputError("k", k, "1 or more")
        kept = None if mask is None else np.flatnonzero(mask)
        searched = base if kept is None else base[kept]
        width = min(k, len(searched))
        if width > K_MAX:
            return self._processor.exact(vectors, queries, k, metric, mask)
        if not width or not len(asked):
            return no_neighbours(len(asked), k)
        with self._lock:
            limits = self._limits(searched, share)
            _, rows = faiss.knn_gpu(
                self._ready(faiss),
                asked,
                searched,
                width,
                metric=metric_of(faiss, metric),
                device=self._device,
                **limits,
            )
        if kept is not None:
            rows = np.where(rows < 0, NO_ROW, kept[rows])
        return rank_exactly(base, asked, rows, k, metric)

    def free(self) -> None:
        """Give FAISS's scratch memory back."""
        with self._lock:
            self._resources = None

    def _ready(self, faiss: Any) -> Any:
        """FAISS's resources of the GPU; its pinned memory is not needed for single searches.

        Asked first whether the GPU is (still) there: FAISS ends the process when it meets an error
        of CUDA in the middle of its work.
        """
        if self._device >= faiss.get_num_gpus():
            raise RuntimeError(f"faiss sees no CUDA device {self._device}")
        if self._resources is None:
            self._resources = faiss.StandardGpuResources()
            self._resources.setTempMemory(TEMP_BYTES)
            self._resources.setPinnedMemory(0)
        return self._resources

    def _limits(self, searched: Vectors, share: float) -> dict[str, int]:
        """Blocks of vectors and of questions where not everything may be on the device at once."""
        if self._memory_bytes is None and share == 1.0:
            return {}
        whole = searched.nbytes
        budget = whole + TEMP_BYTES if self._memory_bytes is None else self._memory_bytes
        free = int(share * max(0, budget - CONTEXT_BYTES * bool(self._memory_bytes) - TEMP_BYTES))
        queries = max(MIB, free // _QUERIES_SHARE)
        return {
            "vectorsMemoryLimit": max(MIB, free - queries),
            "queriesMemoryLimit": queries,
        }


def _hand_over(faiss: Any, empty: Any, index: Any) -> None:
    """Parameters of k-means, which a clone on a GPU does not take with it."""
    lists = faiss.try_extract_index_ivf(empty)
    for name in ("seed", "max_points_per_centroid", "niter", "spherical"):
        setattr(index.cp, name, getattr(lists.cp, name))
