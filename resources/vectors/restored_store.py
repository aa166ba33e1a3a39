"""Is a vector store that was restored whole: each index searchable, each batch readable?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fleet.errors import CorruptObjectError
from fleet.vectors.records import IndexManifest, VectorPolicy
from resources.object_store.directory import DirectoryObjectStore
from resources.vectors.faiss_backend import FaissBackend
from resources.vectors.given_vectors import GivenVectors
from resources.vectors.index_store import ObjectVectorStore
from resources.vectors.reading import NetworkSearcher

PROBE_SEED = 20261121
"""Of the vector that each index is asked for."""


def check_store(folder: Path, copies: Path) -> dict[str, Any]:
    """Open what a restored folder holds, read all of it, and count.

    Args:
        folder: of the store.
        copies: folder for verified copies, removed by the caller.

    Raises:
        CorruptObjectError: an index or a batch is damaged or missing.
    """
    store = ObjectVectorStore(DirectoryObjectStore(folder), copies)
    numbers: dict[str, Any] = {"networks": 0, "indexes": 0, "notes": 0, "batches": 0}
    for network_id in store.networks():
        numbers["networks"] += 1
        pointer = store.current(network_id)
        if pointer is not None:
            manifest = store.manifest(network_id, pointer.generation)
            numbers["indexes"] += 1
            numbers["notes"] += _check_index(store, manifest)
            numbers["batches"] += _check_batches(store, manifest)
    return numbers


def _check_index(store: ObjectVectorStore, manifest: IndexManifest) -> int:
    """Open an index as readers do and ask it once; notes inside."""
    own = GivenVectors(manifest.model, {})
    searcher = NetworkSearcher(store, FaissBackend(1), own, manifest.network_id, VectorPolicy())
    probe = np.random.default_rng(PROBE_SEED).standard_normal(manifest.model.dimensions)
    answer = searcher.search_vector(probe, 10)
    if manifest.live and not answer.hits:
        raise CorruptObjectError(
            f"index {manifest.network_id}/{manifest.generation} holds {manifest.live} notes, but "
            "none is found"
        )
    return manifest.live


def _check_batches(store: ObjectVectorStore, manifest: IndexManifest) -> int:
    """Read every batch of the model that the index is made of; how many there are."""
    network_id, model = manifest.network_id, manifest.model
    last = store.last_sequence(network_id, model)
    if last < manifest.sequence:
        raise CorruptObjectError(
            f"index {network_id}/{manifest.generation} is made of embeddings up to batch "
            f"{manifest.sequence}, but there are none behind {last}"
        )
    batches = store.batches(network_id, model)
    for batch in batches:
        store.read(batch, model)
    return len(batches)
