"""What every device has in common: it searches exactly, and leaves index files to the processor."""

from __future__ import annotations

from abc import ABC, abstractmethod

from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import IndexBackend, Mask, Neighbours, VectorIndex
from fleet.vectors.records import IndexSpec, Metric
from resources.vectors.faiss_backend import FaissBackend


class DeviceBackend(ABC):
    """The `IndexBackend` port on a device; errors of the device are raised as its library says.

    Args:
        processor: opens, and builds what the device cannot; None: FAISS on all cores.
    """

    def __init__(self, processor: IndexBackend | None = None) -> None:
        """Nothing is imported yet."""
        self._processor = processor or FaissBackend()

    @property
    @abstractmethod
    def name(self) -> str:
        """See `fleet.ports.IndexBackend.name`."""

    def build(self, spec: IndexSpec, vectors: Vectors, metric: Metric, seed: int) -> VectorIndex:
        """See `fleet.ports.IndexBackend.build`; the index is in the processor's memory."""
        return self._processor.build(spec, vectors, metric, seed)

    def open(self, path: str, *, writable: bool = False) -> VectorIndex:
        """See `fleet.ports.IndexBackend.open`."""
        return self._processor.open(path, writable=writable)

    @abstractmethod
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
        """See `fleet.ports.IndexBackend.exact`.

        Args:
            vectors: (rows, dimensions).
            queries: (queries, dimensions).
            k: wanted.
            metric: of both.
            mask: rows that may be found.
            share: of the device's memory that may be taken.

        Raises:
            RuntimeError: of the device; `resources.vectors.backends` answers it.
        """

    @abstractmethod
    def free(self) -> None:
        """Give back what is held of the device's memory; never raises."""
