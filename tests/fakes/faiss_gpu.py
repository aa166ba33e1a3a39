# ruff: noqa: D102, D107, N802, N803, N815 - methods are functions of FAISS, named by FAISS
"""The module `faiss` with a GPU part, which computes on the processor and fails on demand.

Only the functions of the GPU part are made up; all others are the real module's. A "GPU index" is
an index of the processor that remembers where it lies.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np


class GpuIndex:
    """An index on the fake GPU: what FAISS's own GPU class offers, and nothing more."""

    def __init__(self, index: Any) -> None:
        self.index = index
        self.cp = faiss.ClusteringParameters()

    def train(self, vectors: np.ndarray) -> None:
        lists = faiss.try_extract_index_ivf(self.index)
        for name in ("seed", "max_points_per_centroid", "niter", "spherical"):
            setattr(lists.cp, name, getattr(self.cp, name))
        self.index.train(vectors)

    def add_with_ids(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        self.index.add_with_ids(vectors, ids)


class FakeFaissGpu:
    """Stands in for the module of the wheel `faiss-gpu`.

    Args:
        failures: what the next calls of the GPU part raise; None for those that succeed.
    """

    class StandardGpuResources:
        """Scratch memory of a GPU."""

        def __init__(self) -> None:
            self.temp_bytes = self.pinned_bytes = -1

        def setTempMemory(self, size: int) -> None:
            self.temp_bytes = size

        def setPinnedMemory(self, size: int) -> None:
            self.pinned_bytes = size

    class GpuClonerOptions:
        """How an index is copied to a GPU."""

        reserveVecs = 0

    def __init__(self, failures: list[Exception | None] | None = None) -> None:
        self.failures = list(failures or [])
        self.gpus = 1
        self.limits: list[tuple[int, int]] = []
        """Memory limits of each search: of vectors, of questions."""
        self.built = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(faiss, name)

    def _enter(self, resources: Any, device: int) -> None:
        assert resources.temp_bytes > 0, "FAISS takes 1.5 GiB unless it is told otherwise"
        assert device >= 0
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure

    def get_num_gpus(self) -> int:
        return self.gpus

    def index_cpu_to_gpu(self, resources: Any, device: int, index: Any, options: Any) -> GpuIndex:
        self._enter(resources, device)
        assert options.reserveVecs >= 0
        self.built += 1
        return GpuIndex(faiss.clone_index(index))

    def index_gpu_to_cpu(self, index: GpuIndex) -> Any:
        return index.index

    def knn_gpu(
        self,
        res: Any,
        xq: np.ndarray,
        xb: np.ndarray,
        k: int,
        *,
        metric: int,
        device: int,
        vectorsMemoryLimit: int = 0,
        queriesMemoryLimit: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        self._enter(res, device)
        assert k <= 2048, "FAISS refuses"
        self.limits.append((vectorsMemoryLimit, queriesMemoryLimit))
        return faiss.knn(xq, xb, k, metric)
