"""Which backend computes, why, and what happens when a device fails (`resources.gpu.fallbacks`)."""

from __future__ import annotations

from typing import NamedTuple

from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import IndexBackend, Mask, Neighbours, VectorIndex
from fleet.vectors.records import IndexSpec, Metric
from resources.gpu.devices import GpuDevices
from resources.gpu.fallbacks import DeviceGuard
from resources.gpu.leasing import GpuTurn
from resources.vectors.device_backend import DeviceBackend
from resources.vectors.faiss_backend import FaissBackend
from resources.vectors.faiss_gpu_backend import FaissGpuBackend
from resources.vectors.torch_backend import TorchBackend

GPU_ROWS_MIN = 20_000
"""Fewer vectors are searched on the processor before they are copied to a device."""


class ChosenBackend(NamedTuple):
    """What computes, and why."""

    backend: IndexBackend
    reason: str

    def told(self) -> str:
        """The reason, and what fell back since; for manifests and evidence."""
        if isinstance(self.backend, FallingBackend) and self.backend.guard.fallbacks:
            return f"{self.reason}; {self.backend.guard.fallen}"
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
    device: DeviceBackend
    if devices.backend == "faiss":
        device = FaissGpuBackend(number, processor, memory_bytes)
    else:
        device = TorchBackend(f"cuda:{number}", processor, memory_bytes)
    reason = devices.reason if turn is None else turn.reason
    return ChosenBackend(FallingBackend(device, processor), reason)


class FallingBackend:
    """The `IndexBackend` port over a device, with the processor behind it.

    Args:
        device: computes on a GPU.
        processor: opens, and does what the device cannot.
    """

    def __init__(self, device: DeviceBackend, processor: IndexBackend) -> None:
        """Nothing is asked yet."""
        self._device = device
        self._processor = processor
        self.guard = DeviceGuard(device.free)

    def free(self) -> None:
        """Give back what the device's library keeps for later; never raises."""
        self._device.free()

    @property
    def name(self) -> str:
        """See `fleet.ports.IndexBackend.name`."""
        return self._processor.name if self.guard.is_lost else self._device.name

    def build(self, spec: IndexSpec, vectors: Vectors, metric: Metric, seed: int) -> VectorIndex:
        """See `fleet.ports.IndexBackend.build`; a build cannot be halved, so it is tried once."""
        if len(vectors) < GPU_ROWS_MIN:
            return self._processor.build(spec, vectors, metric, seed)
        return self.guard.run(
            lambda _: self._device.build(spec, vectors, metric, seed),
            lambda: self._processor.build(spec, vectors, metric, seed),
            shares=(1.0,),
        )

    def open(self, path: str, *, writable: bool = False) -> VectorIndex:
        """See `fleet.ports.IndexBackend.open`."""
        return self._processor.open(path, writable=writable)

    def exact(
        self, vectors: Vectors, queries: Vectors, k: int, metric: Metric, mask: Mask | None = None
    ) -> Neighbours:
        """See `fleet.ports.IndexBackend.exact`."""
        if len(vectors) < GPU_ROWS_MIN:
            return self._processor.exact(vectors, queries, k, metric, mask)
        return self.guard.run(
            lambda share: self._device.exact(vectors, queries, k, metric, mask, share=share),
            lambda: self._processor.exact(vectors, queries, k, metric, mask),
        )
