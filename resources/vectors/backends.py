"""Which backend computes, why, and what happens when a device fails.

A device that runs out of memory is asked once more with half of it; one that fails again, or is
lost, is taken over from by the processor. Each takeover is counted and kept in words. An answer is
never lost and never of lesser quality, only later.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from fleet.errors import InvalidInputError, PermanentError, StateroomError
from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import IndexBackend, Mask, Neighbours, VectorIndex
from fleet.vectors.records import IndexSpec, Metric
from resources.gpu.devices import GpuDevices
from resources.gpu.leasing import GpuTurn
from resources.vectors.faiss_backend import FaissBackend
from resources.vectors.faiss_gpu_backend import FaissGpuBackend
from resources.vectors.torch_backend import TorchBackend

GPU_ROWS_MIN = 20_000
"""Fewer vectors are searched on the processor before they are copied to a device."""

SHARES = (1.0, 0.5)
"""Parts of the memory with which a search is tried on a device, before the processor is."""

_MEMORY_WORDS = ("out of memory", "cudaerrormemoryallocation", "cublas_status_alloc_failed")

Answer = TypeVar("Answer")


class ExactDevice(Protocol):
    """A device that searches exactly, and may build."""

    @property
    def name(self) -> str:
        """See `fleet.ports.IndexBackend.name`."""
        ...

    def build(self, spec: IndexSpec, vectors: Vectors, metric: Metric, seed: int) -> VectorIndex:
        """See `fleet.ports.IndexBackend.build`."""
        ...

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
        """As `fleet.ports.IndexBackend.exact`, with only a share of the memory it may take."""
        ...

    def free(self) -> None:
        """Give back what is held of the device's memory; never raises."""
        ...


class ChosenBackend(NamedTuple):
    """What computes, and why."""

    backend: IndexBackend
    reason: str

    def told(self) -> str:
        """The reason, and what fell back since; for manifests and evidence."""
        if isinstance(self.backend, FallingBackend) and self.backend.fallbacks:
            return f"{self.reason}; {self.backend.fallen}"
        return self.reason


def choose_backend(
    devices: GpuDevices, threads: int | None = None, turn: GpuTurn | None = None
) -> ChosenBackend:
    """The best backend that this process can use: faiss on a GPU, torch, or the processor.

    Args:
        devices: policy and what each library sees.
        threads: of FAISS on the processor.
        turn: the lease to compute under; its GPU, its memory. None: the first GPU, whatever is
            free of it: for a process that shares its GPU with nobody.

    Raises:
        PermanentError: the policy is `require` and no library can compute on a GPU.
    """
    devices.check()
    processor = FaissBackend(threads)
    if devices.backend == "cpu" or (turn is not None and turn.device is None):
        return ChosenBackend(processor, devices.reason if turn is None else turn.reason)
    number = 0 if turn is None or turn.device is None else turn.device
    memory_bytes = None if turn is None else turn.memory_bytes
    device: ExactDevice
    if devices.backend == "faiss":
        device = FaissGpuBackend(number, processor, memory_bytes)
    else:
        device = TorchBackend(f"cuda:{number}", processor, memory_bytes)
    reason = devices.reason if turn is None else turn.reason
    return ChosenBackend(FallingBackend(device, processor), reason)


def classify_failure(error: Exception) -> str:
    """`memory`, `lost` or `other`: why a device failed, in one word for a metric."""
    text = f"{type(error).__name__}: {error}".casefold()
    if (
        isinstance(error, MemoryError)
        or "outofmemory" in text
        or any(word in text for word in _MEMORY_WORDS)
    ):
        return "memory"
    lost = ("device-side", "unspecified launch failure", "is lost", "unavailable", "no cuda")
    return "lost" if any(word in text for word in lost) else "other"


class FallingBackend:
    """The `IndexBackend` port over a device, with the processor behind it.

    Args:
        device: computes on a GPU.
        processor: opens, and does what the device cannot.
    """

    def __init__(self, device: ExactDevice, processor: IndexBackend) -> None:
        """Nothing is asked yet."""
        self._device = device
        self._processor = processor
        self._lock = threading.Lock()
        self._is_lost = False
        self.fallbacks: Counter[str] = Counter()
        """Reason -> how often the processor took over: `stateroom_gpu_fallbacks_total`."""
        self.last_failure = ""
        """Of the device, in words; empty when there was none."""

    @property
    def name(self) -> str:
        """See `fleet.ports.IndexBackend.name`."""
        return self._processor.name if self._is_lost else self._device.name

    @property
    def fallen(self) -> str:
        """What the processor took over, in words; empty when nothing."""
        if not self.fallbacks:
            return ""
        counted = ", ".join(f"{reason} {count}" for reason, count in sorted(self.fallbacks.items()))
        return f"fell back to the processor ({counted}): {self.last_failure}"

    def build(self, spec: IndexSpec, vectors: Vectors, metric: Metric, seed: int) -> VectorIndex:
        """See `fleet.ports.IndexBackend.build`; a build cannot be halved, so it is tried once."""
        return self._guarded(
            len(vectors),
            (1.0,),
            lambda _: self._device.build(spec, vectors, metric, seed),
            lambda: self._processor.build(spec, vectors, metric, seed),
        )

    def open(self, path: str, *, writable: bool = False) -> VectorIndex:
        """See `fleet.ports.IndexBackend.open`."""
        return self._processor.open(path, writable=writable)

    def exact(
        self, vectors: Vectors, queries: Vectors, k: int, metric: Metric, mask: Mask | None = None
    ) -> Neighbours:
        """See `fleet.ports.IndexBackend.exact`."""
        return self._guarded(
            len(vectors),
            SHARES,
            lambda share: self._device.exact(vectors, queries, k, metric, mask, share=share),
            lambda: self._processor.exact(vectors, queries, k, metric, mask),
        )

    def _guarded(
        self,
        rows: int,
        shares: tuple[float, ...],
        on_device: Callable[[float], Answer],
        on_processor: Callable[[], Answer],
    ) -> Answer:
        """Try the device with one share of its memory after another, then the processor."""
        if self._is_lost or rows < GPU_ROWS_MIN:
            return on_processor()
        with self._lock:
            reason = "memory"
            for share in shares:
                try:
                    return on_device(share)
                except (InvalidInputError, PermanentError):
                    raise
                except (RuntimeError, MemoryError, StateroomError) as error:
                    self.last_failure = f"{type(error).__name__}: {error}"
                    reason = classify_failure(error)
                # Only here, when the error is gone, does nothing hold the failed search's memory.
                self._device.free()
                if reason != "memory":
                    break
            self.fallbacks[reason] += 1
            self._is_lost = reason != "memory"
        return on_processor()
