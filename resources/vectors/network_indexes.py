"""The vector store of the settings, and what embeds, builds and searches, behind one handle.

What ops, commands and the node's search open indexes with. Nothing is opened or imported before its
first use: the definitions name this class, and every run would pay for faiss and the model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import InvalidInputError, NotFoundError
from fleet.ports.clock import Clock
from fleet.ports.object_store import ObjectStore
from fleet.vectors.declaration import GIVEN, STATIC, TRANSFORMERS, VectorDeclaration
from resources.gpu.devices import GpuDevices

if TYPE_CHECKING:
    from fleet.ports.embedder import Embedder
    from fleet.ports.gpu_lease_store import GpuLeaseStore
    from resources.vectors.building import IndexBuilder
    from resources.vectors.index_store import ObjectVectorStore
    from resources.vectors.reading import NetworkSearcher


class NetworkIndexes:
    """Embeddings and indexes of all declared networks; safe to share between threads.

    Args:
        declaration: where the store lies, and what each network wants.
        clock: dates what is written.
        threads: of FAISS; None: as many as there are cores.
    """

    def __init__(
        self, declaration: VectorDeclaration, clock: Clock, threads: int | None = None
    ) -> None:
        """Remember what is declared; nothing is opened."""
        self.declaration = declaration
        self._clock = clock
        self._threads = threads
        self._lock = threading.RLock()
        self._objects: ObjectStore | None = None
        self._store: ObjectVectorStore | None = None

    @property
    def objects(self) -> ObjectStore:
        """The object store below: a folder or a bucket."""
        with self._lock:
            if self._objects is None:
                self._objects = _open_objects(self.declaration)
            return self._objects

    @property
    def store(self) -> ObjectVectorStore:
        """Embeddings, generations, pointers; one handle for the life of this object."""
        from resources.vectors.index_store import ObjectVectorStore

        with self._lock:
            if self._store is None:
                copies = Path(self.declaration.copies_path)
                self._store = ObjectVectorStore(self.objects, copies)
            return self._store

    def exists(self) -> bool:
        """Whether there is a store: an inspection must not make one.

        Of a bucket it is not asked what is in it, which would list every object of every network.
        """
        return bool(self.declaration.bucket) or Path(self.declaration.path).is_dir()

    def demand_store(self) -> ObjectVectorStore:
        """The store, where there is one.

        Raises:
            NotFoundError: nothing was ever embedded here.
        """
        if not self.exists():
            raise NotFoundError(
                f"no embeddings and no index at {self.declaration.place}",
                hint="Start the fleet with `stateroom up`; the first notes are indexed within a "
                "minute. Or run `build_index_job`.",
            )
        return self.store

    def embedder(self, network_id: str) -> Embedder:
        """What turns this network's notes and questions into vectors.

        Raises:
            InvalidInputError: the network is not declared.
            PermanentError: the model cannot be read (at the first use).
        """
        declared = self.declaration.network(network_id)
        if declared.given is not None:
            from resources.vectors.given_vectors import GivenVectors

            return GivenVectors(declared.given, {})
        return _open_embedder(declared.embedder, declared.model_path)

    @contextmanager
    def leased_embedder(self, network_id: str, leases: GpuLeaseStore) -> Iterator[Embedder]:
        """As `embedder`; large batches go to a GPU where the model can use one.

        Memory of the GPU is leased with the first large batch, until the block ends.

        Args:
            network_id: the network.
            leases: the control store.

        Raises:
            InvalidInputError: the network is not declared.
            PermanentError: its GPU policy is `require`, and no library can compute on one.
        """
        declared, processor = self.declaration.network(network_id), self.embedder(network_id)
        devices = GpuDevices(declared.gpu)
        devices.check()  # also where nothing goes to it: a run that cannot build embeds nothing
        if declared.embedder != TRANSFORMERS:
            yield processor
            return
        from resources.vectors.leased_embedder import leased_embedder

        with leased_embedder(
            Path(declared.model_path),
            processor,
            devices,
            leases,
            purpose=f"embeddings/{network_id}",
        ) as embedder:
            yield embedder

    def builder(self, network_id: str, work: Path | None = None) -> IndexBuilder:
        """What brings this network's index up to date, on the processor.

        Args:
            network_id: the network.
            work: folder for files that are being built; None: the system's.
        """
        from resources.vectors.building import IndexBuilder
        from resources.vectors.faiss_backend import FaissBackend

        policy = self.declaration.network(network_id).policy
        backend = FaissBackend(self._threads)
        return IndexBuilder(self.store, backend, policy, self._clock.now, work, "no GPU was asked")

    @contextmanager
    def leased_builder(
        self, network_id: str, leases: GpuLeaseStore, work: Path | None = None
    ) -> Iterator[IndexBuilder]:
        """What brings this network's index up to date: on a GPU where that is worth it.

        Memory of the GPU is leased when the first large piece of work comes. The builder proves
        the lease right before it publishes, and writes into the manifest what fell back; fallbacks
        are counted in the control store at the end.

        Args:
            network_id: the network.
            leases: the control store.
            work: folder for files that are being built; None: the system's.

        Raises:
            PermanentError: at once: its GPU policy is `require`, and no library computes on one.
            GpuBusyError: in the builder: the policy is `require`, and no GPU has the memory now.
            StoreUnavailableError: in the builder: the control store does not answer.
        """
        from resources.vectors.building import IndexBuilder
        from resources.vectors.leased_backend import leased_backend

        declared = self.declaration.network(network_id)
        purpose, now = f"vector-index/{network_id}", self._clock.now
        with leased_backend(
            GpuDevices(declared.gpu), leases, purpose=purpose, threads=self._threads
        ) as backend:
            yield IndexBuilder(
                self.store, backend, declared.policy, now, work, backend.told, backend.check
            )

    def searcher(self, network_id: str) -> NetworkSearcher:
        """Answers questions from this network's index, on the processor; nothing is opened yet.

        Raises:
            InvalidInputError: the network is not declared.
        """
        from resources.vectors.faiss_backend import FaissBackend
        from resources.vectors.reading import NetworkSearcher

        policy = self.declaration.network(network_id).policy
        return NetworkSearcher(
            self.store,
            FaissBackend(self._threads),
            self.embedder(network_id),
            network_id,
            policy,
        )


def _open_objects(declaration: VectorDeclaration) -> ObjectStore:
    if not declaration.bucket:
        from resources.object_store.directory import DirectoryObjectStore

        return DirectoryObjectStore(Path(declaration.path))
    from resources.object_store.s3 import S3ObjectStore, open_s3_client

    client = open_s3_client(declaration.aws_region or None, declaration.endpoint_url or None)
    return S3ObjectStore(client, declaration.bucket, declaration.prefix)


@cache
def _open_embedder(name: str, model_path: str) -> Embedder:
    """One model for all handles of a process: it takes 0.3 s to read, and 40 MB."""
    if name == STATIC:
        from resources.vectors.static_embedder import StaticEmbedder

        return StaticEmbedder(Path(model_path) if model_path else None)
    if name == TRANSFORMERS:
        from resources.vectors.transformer_embedder import TransformerEmbedder

        return TransformerEmbedder(Path(model_path))
    raise InvalidInputError("vectors.embedder", name, f"{STATIC}, {GIVEN}, {TRANSFORMERS}")
