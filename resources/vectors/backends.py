"""Which backend computes, why, and what happens when a device fails.

A device that runs out of memory is asked once more with half the questions; one that fails again,
or is lost, is not asked any more by this object: the processor answers, the failure is counted and
kept in words. An answer is never lost and never of lesser quality, only later.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fleet.errors import InvalidInputError, PermanentError, StateroomError
from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import IndexBackend, Mask, Neighbours, VectorIndex
from fleet.vectors.records import IndexSpec, Metric
from resources.gpu.devices import GpuDevices
from resources.vectors.faiss_backend import FaissBackend
from resources.vectors.torch_backend import TorchBackend

GPU_ROWS_MIN = 20_000
"""Fewer vectors are searched on the processor before they are copied to a device."""

_MEMORY_WORDS = ("out of memory", "cudaerrormemoryallocation", "cublas_status_alloc_failed")


class ChosenBackend(NamedTuple):
    """What computes, and why."""

    backend: IndexBackend
    reason: str


def choose_backend(devices: GpuDevices, threads: int | None = None) -> ChosenBackend:
    """The best backend that this process can use.

    Args:
        devices: policy and what each library sees.
        threads: of FAISS on the processor.

    Raises:
        PermanentError: the policy is `require` and no library can compute on a GPU.
    """
    devices.check()
    processor = FaissBackend(threads)
    if devices.backend == "cpu":
        told = "; ".join(f"{name}: {one.detail}" for name, one in devices.findings.items())
        return ChosenBackend(processor, f"policy {devices.policy}; {told or 'no GPU was asked'}")
    detail = devices.findings[devices.backend].detail
    torch = devices.findings.get("torch")
    if torch is None or not torch.gpus:
        return ChosenBackend(processor, f"faiss sees {detail}, but exact search needs torch")
    guarded = FallingBackend(TorchBackend(faiss=processor), processor)
    return ChosenBackend(guarded, f"policy {devices.policy}; torch: {torch.detail}")


def classify_failure(error: Exception) -> str:
    """`memory`, `lost` or `other`: why a device failed, in one word for a metric."""
    text = f"{type(error).__name__}: {error}".casefold()
    if "outofmemory" in text or any(word in text for word in _MEMORY_WORDS):
        return "memory"
    lost = ("device-side", "unspecified launch failure", "is lost", "unavailable", "no cuda")
    return "lost" if any(word in text for word in lost) else "other"


class FallingBackend:
    """The `IndexBackend` port over a device, with the processor behind it.

    Args:
        device: computes exactly on a GPU.
        processor: builds, opens, and answers where the device cannot.
        free: gives the device's memory back after a failure.
    """

    def __init__(
        self,
        device: IndexBackend,
        processor: IndexBackend,
        free: Callable[[], None] | None = None,
    ) -> None:
        """Nothing is asked yet."""
        self._device = device
        self._processor = processor
        self._free = free or _free_torch
        self._lock = threading.Lock()
        self._is_lost = False
        self.fallbacks: Counter[str] = Counter()
        """Reason -> how many searches the processor took over: `vector_gpu_fallback_total`."""
        self.last_failure = ""
        """Of the device, in words; empty when there was none."""

    @property
    def name(self) -> str:
        """See `fleet.ports.IndexBackend.name`."""
        return self._processor.name if self._is_lost else self._device.name

    def build(self, spec: IndexSpec, vectors: Vectors, metric: Metric, seed: int) -> VectorIndex:
        """See `fleet.ports.IndexBackend.build`."""
        return self._processor.build(spec, vectors, metric, seed)

    def open(self, path: str, *, writable: bool = False) -> VectorIndex:
        """See `fleet.ports.IndexBackend.open`."""
        return self._processor.open(path, writable=writable)

    def exact(
        self, vectors: Vectors, queries: Vectors, k: int, metric: Metric, mask: Mask | None = None
    ) -> Neighbours:
        """See `fleet.ports.IndexBackend.exact`."""
        if self._is_lost or len(vectors) < GPU_ROWS_MIN:
            return self._processor.exact(vectors, queries, k, metric, mask)
        with self._lock:
            try:
                return self._device.exact(vectors, queries, k, metric, mask)
            except (InvalidInputError, PermanentError):
                raise
            except (RuntimeError, MemoryError, StateroomError) as error:
                self._remember(error)
                first = classify_failure(error)
            if first == "memory" and len(queries) > 1:
                try:
                    return self._by_halves(vectors, queries, k, metric, mask)
                except (RuntimeError, MemoryError, StateroomError) as error:
                    self._remember(error)
                    first = classify_failure(error)
            self.fallbacks[first] += 1
            self._is_lost = first != "memory"
        return self._processor.exact(vectors, queries, k, metric, mask)

    def _by_halves(
        self, vectors: Vectors, queries: Vectors, k: int, metric: Metric, mask: Mask | None
    ) -> Neighbours:
        half = len(queries) // 2
        parts = [
            self._device.exact(vectors, part, k, metric, mask)
            for part in (queries[:half], queries[half:])
        ]
        return Neighbours(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.rows for part in parts]),
        )

    def _remember(self, error: Exception) -> None:
        self.last_failure = f"{type(error).__name__}: {error}"
        self._free()


def _free_torch() -> None:
    """Give cached blocks of the device back; a lost device cannot, which changes nothing."""
    from contextlib import suppress

    from resources.vectors.torch_backend import load_torch

    with suppress(RuntimeError, PermanentError):
        load_torch().cuda.empty_cache()
