"""Which backend computes, why, and what happens when a device fails.

A device that runs out of memory is asked once more with half of it; one that fails again, or is
lost, is taken over from by the processor. Each takeover is counted and kept in words. An answer is
never lost and never of lesser quality, only later.

`leased_backend` is what builders use: memory is leased before it is taken, and what fell back is
counted in the control store when the turn ends.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TypeVar

from fleet.errors import InvalidInputError, PermanentError, StateroomError
from fleet.gpu_memory import MemoryNeed, exact_search_need, larger_need, list_build_need
from fleet.ports.embedder import Vectors
from fleet.ports.gpu_lease_store import GpuLeaseStore
from fleet.ports.index_backend import IndexBackend, Mask, Neighbours, VectorIndex
from fleet.vectors.choice import TRAIN_POINTS, list_count
from fleet.vectors.records import IndexSpec, Metric
from resources.gpu.devices import GpuDevices
from resources.gpu.leasing import DEFAULT_SIGHT, GpuSight, GpuTurn, gpu_turn, machine_name
from resources.vectors.faiss_backend import TRAIN_ROWS_MIN, FaissBackend
from resources.vectors.faiss_gpu_backend import TEMP_BYTES, FaissGpuBackend
from resources.vectors.torch_backend import TorchBackend

LOG = logging.getLogger(__name__)

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
    turn: GpuTurn | None = None
    """The lease that it computes under; None: it was chosen without one."""

    def told(self) -> str:
        """The reason, and what fell back since; for manifests and evidence."""
        if isinstance(self.backend, FallingBackend) and self.backend.fallbacks:
            return f"{self.reason}; {self.backend.fallen}"
        return self.reason

    def check(self) -> None:
        """Prove that the GPU's memory is still leased; to be called before a publication.

        Raises:
            LeaseLostError: it is not: publish nothing.
            StoreUnavailableError: it cannot be proven now.
        """
        if self.turn is not None:
            self.turn.check()


class VectorWork(NamedTuple):
    """How large a refresh of an index is."""

    rows: int
    dimensions: int
    queries: int = 1000
    """Questions of the measurement of recall."""
    k: int = 11
    """Neighbours of each: one more than is measured, because a note finds itself."""


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
        return ChosenBackend(processor, devices.reason if turn is None else turn.reason, turn)
    number = 0 if turn is None or turn.device is None else turn.device
    memory_bytes = None if turn is None else turn.memory_bytes
    device: ExactDevice
    if devices.backend == "faiss":
        device = FaissGpuBackend(number, processor, memory_bytes)
    else:
        device = TorchBackend(f"cuda:{number}", processor, memory_bytes)
    reason = devices.reason if turn is None else turn.reason
    return ChosenBackend(FallingBackend(device, processor), reason, turn)


@contextmanager
def leased_backend(
    devices: GpuDevices,
    leases: GpuLeaseStore,
    work: VectorWork,
    *,
    purpose: str,
    threads: int | None = None,
    sight: GpuSight = DEFAULT_SIGHT,
) -> Iterator[ChosenBackend]:
    """The best backend for a refresh, with memory of a GPU leased for as long as the block runs.

    Hand `chosen.backend` and `chosen.told` to the builder, and call `chosen.check()` right before
    the publication: a holder that lost its lease publishes nothing.

    Args:
        devices: policy and what each library sees.
        leases: the control store.
        work: how large it is; fewer than `GPU_ROWS_MIN` vectors never ask for a GPU.
        purpose: what it is for, in the lease: `vector-index/host-watch`.
        threads: of FAISS on the processor.
        sight: how the machine is seen.

    Raises:
        PermanentError: the policy is `require` and no library can compute on a GPU.
        GpuBusyError: the policy is `require` and no GPU has the memory now.
        StoreUnavailableError: the store does not answer.
    """
    devices.check()
    if work.rows < GPU_ROWS_MIN:
        reason = f"{work.rows} vectors: fewer than {GPU_ROWS_MIN} are searched on the processor"
        yield ChosenBackend(FaissBackend(threads), reason)
        return
    need = memory_need(devices.backend, work)
    with gpu_turn(devices, leases, need, purpose=purpose, sight=sight) as turn:
        chosen = choose_backend(devices, threads, turn)
        try:
            yield chosen
        finally:
            _count(leases, chosen, sight.node_id or machine_name())


def memory_need(backend: str, work: VectorWork) -> MemoryNeed:
    """What a refresh takes of a GPU: the larger of building lists (FAISS only) and exact search.

    Args:
        backend: `faiss`, `torch` or `cpu`.
        work: how large it is.
    """
    rows, dimensions, queries, k = work
    if backend != "faiss":
        return exact_search_need(rows, dimensions, queries, k=k)
    search = exact_search_need(rows, dimensions, queries, type_bytes=4, k=k)
    train_rows = min(rows, max(TRAIN_ROWS_MIN, list_count(rows) * TRAIN_POINTS))
    build = list_build_need(rows, dimensions, train_rows, temp_bytes=TEMP_BYTES)
    # A build that does not fit falls back by itself; a search that does not, goes in blocks.
    return larger_need(search, build)._replace(least_bytes=search.least_bytes + TEMP_BYTES)


def _count(leases: GpuLeaseStore, chosen: ChosenBackend, node_id: str) -> None:
    """Add what fell back to the store's counts; a store that fails now must not undo the work."""
    backend = chosen.backend
    if not isinstance(backend, FallingBackend) or not backend.fallbacks:
        return
    LOG.warning("GPU: %s", backend.fallen)
    try:
        leases.count_gpu_fallbacks(node_id, backend.fallbacks)
    except StateroomError as error:
        LOG.warning("GPU: these fallbacks are not in stateroom_gpu_fallbacks_total: %s", error)


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
