"""A backend that leases memory of a GPU when the first large piece of work comes, and not before.

Most refreshes add a few notes, which the processor does in less time than a GPU takes to wake. So a
builder is handed a backend that computes there until it is asked to train, or to search exactly,
`GPU_ROWS_MIN` vectors or more; from then on it holds a turn on a GPU until its block ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fleet.gpu_memory import MemoryNeed, exact_search_need, larger_need, list_build_need
from fleet.ports.embedder import Vectors
from fleet.ports.gpu_lease_store import GpuLeaseStore
from fleet.ports.index_backend import Mask, Neighbours, VectorIndex
from fleet.vectors.choice import TRAIN_POINTS, list_count
from fleet.vectors.records import IndexSpec, Metric
from resources.gpu.devices import GpuDevices
from resources.gpu.fallbacks import count_fallbacks
from resources.gpu.leasing import DEFAULT_SIGHT, GpuSight, GpuTurn, gpu_turn, machine_name
from resources.vectors import backends
from resources.vectors.backends import ChosenBackend, FallingBackend, choose_backend
from resources.vectors.faiss_backend import TRAIN_ROWS_MIN, FaissBackend
from resources.vectors.faiss_gpu_backend import TEMP_BYTES

QUERIES_USUAL = 1000
"""Questions of a measurement of recall."""
K_USUAL = 11
"""Neighbours of each: one more than is measured, because a note finds itself."""


class LeasedBackend:
    """The `IndexBackend` port over what a turn gives; made by `leased_backend`.

    Args:
        devices: policy, and what each library sees.
        leases: the control store.
        purpose: what it is for, in the lease.
        threads: of FAISS on the processor.
        sight: how the machine is seen.
        stack: of the block; the turn ends with it.
    """

    def __init__(
        self,
        devices: GpuDevices,
        leases: GpuLeaseStore,
        purpose: str,
        threads: int | None,
        sight: GpuSight,
        stack: ExitStack,
    ) -> None:
        """Nothing is leased yet."""
        self._devices = devices
        self._leases = leases
        self._purpose = purpose
        self._threads = threads
        self._sight = sight
        self._stack = stack
        self._processor = FaissBackend(threads)
        self._chosen: ChosenBackend | None = None
        self._turn: GpuTurn | None = None

    @property
    def name(self) -> str:
        """See `fleet.ports.IndexBackend.name`."""
        return self._processor.name if self._chosen is None else self._chosen.backend.name

    @property
    def turn(self) -> GpuTurn | None:
        """The turn, once there is one."""
        return self._turn

    def told(self) -> str:
        """Why it computed where it did, and what fell back; for manifests and evidence."""
        if self._chosen is None:
            return f"fewer than {backends.GPU_ROWS_MIN} vectors at a time: the processor"
        return self._chosen.told()

    def check(self) -> None:
        """Prove that the GPU's memory is still leased; to be called before a publication.

        Raises:
            LeaseLostError: it is not: publish nothing.
            StoreUnavailableError: it cannot be proven now.
        """
        if self._turn is not None:
            self._turn.check()

    def build(self, spec: IndexSpec, vectors: Vectors, metric: Metric, seed: int) -> VectorIndex:
        """See `fleet.ports.IndexBackend.build`; errors also as of `leased_backend`."""
        if len(vectors) < backends.GPU_ROWS_MIN:
            return self._processor.build(spec, vectors, metric, seed)
        chosen = self._choose(len(vectors), vectors.shape[-1], QUERIES_USUAL, K_USUAL)
        return chosen.backend.build(spec, vectors, metric, seed)

    def open(self, path: str, *, writable: bool = False) -> VectorIndex:
        """See `fleet.ports.IndexBackend.open`."""
        return self._processor.open(path, writable=writable)

    def exact(
        self, vectors: Vectors, queries: Vectors, k: int, metric: Metric, mask: Mask | None = None
    ) -> Neighbours:
        """See `fleet.ports.IndexBackend.exact`; errors also as of `leased_backend`."""
        if len(vectors) < backends.GPU_ROWS_MIN:
            return self._processor.exact(vectors, queries, k, metric, mask)
        chosen = self._choose(len(vectors), vectors.shape[-1], len(queries), k)
        return chosen.backend.exact(vectors, queries, k, metric, mask)

    def _choose(self, rows: int, dimensions: int, queries: int, k: int) -> ChosenBackend:
        """Take the turn with the first large piece of work; later ones are done within it."""
        if self._chosen is None:
            backend = self._devices.backend
            need = memory_need(
                backend, rows, dimensions, max(queries, QUERIES_USUAL), max(k, K_USUAL)
            )
            self._turn = self._stack.enter_context(
                gpu_turn(
                    self._devices, self._leases, need, purpose=self._purpose, sight=self._sight
                )
            )
            self._chosen = choose_backend(self._devices, self._threads, self._turn)
            self._stack.callback(self._end)  # before the turn ends
        return self._chosen

    def _end(self) -> None:
        """Give the device's memory back while it is still leased; count what fell back."""
        falling = None if self._chosen is None else self._chosen.backend
        if isinstance(falling, FallingBackend):
            falling.free()
            node_id = self._sight.node_id or machine_name()
            count_fallbacks(self._leases, node_id, falling.guard.fallbacks)


@contextmanager
def leased_backend(
    devices: GpuDevices,
    leases: GpuLeaseStore,
    *,
    purpose: str,
    threads: int | None = None,
    sight: GpuSight = DEFAULT_SIGHT,
) -> Iterator[LeasedBackend]:
    """A backend for one refresh; what it leases is given back when the block ends.

    Hand it to the builder with its `told` (reason for the manifest, fallbacks included) and its
    `check` (called right before the publication: a holder that lost its lease publishes nothing).

    Args:
        devices: policy, and what each library sees.
        leases: the control store.
        purpose: what it is for, in the lease: `vector-index/host-watch`.
        threads: of FAISS on the processor.
        sight: how the machine is seen.

    Raises:
        PermanentError: at once: the policy is `require`, and no library can compute on a GPU.
        GpuBusyError: with the first large piece of work: the policy is `require`, and no GPU has
            the memory now.
        StoreUnavailableError: with the first large piece of work: the store does not answer.
    """
    devices.check()
    with ExitStack() as stack:
        yield LeasedBackend(devices, leases, purpose, threads, sight, stack)


def memory_need(backend: str, rows: int, dimensions: int, queries: int, k: int) -> MemoryNeed:
    """What a refresh takes of a GPU: the larger of building lists (FAISS only) and exact search.

    Args:
        backend: `faiss`, `torch` or `cpu`.
        rows: vectors.
        dimensions: of each.
        queries: of the largest search.
        k: neighbours of each.
    """
    if backend != "faiss":
        return exact_search_need(rows, dimensions, queries, k=k)
    search = exact_search_need(rows, dimensions, queries, type_bytes=4, k=k)
    train_rows = min(rows, max(TRAIN_ROWS_MIN, list_count(rows) * TRAIN_POINTS))
    build = list_build_need(rows, dimensions, train_rows, temp_bytes=TEMP_BYTES)
    # A build that does not fit falls back by itself; a search that does not, goes in blocks.
    return larger_need(search, build)._replace(least_bytes=search.least_bytes + TEMP_BYTES)
