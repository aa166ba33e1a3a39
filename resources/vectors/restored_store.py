"""Is a vector store that was restored whole: each index searchable, each batch readable?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fleet.errors import CorruptObjectError
from fleet.vectors.records import EmbeddingModel, IndexPointer
from resources.object_store.directory import DirectoryObjectStore
from resources.vectors.faiss_backend import FaissBackend
from resources.vectors.generation_rows import live_mask, open_rows
from resources.vectors.index_store import ObjectVectorStore

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
    numbers: dict[str, Any] = {"networks": 0, "indexes": 0, "vectors": 0, "batches": 0}
    for network_id in store.networks():
        numbers["networks"] += 1
        pointer = store.current(network_id)
        if pointer is not None:
            numbers["indexes"] += 1
            numbers["vectors"] += _check_index(store, pointer)
            model = store.manifest(network_id, pointer.generation).model
            numbers["batches"] += _check_batches(store, network_id, model)
    return numbers


def _check_index(store: ObjectVectorStore, pointer: IndexPointer) -> int:
    """Open an index as readers do and ask it once; vectors inside."""
    files = store.open(pointer)
    manifest = files.manifest
    index = FaissBackend(1).open(files.index_path)
    rows = open_rows(files.rows_path)
    live = live_mask(rows)
    counted = (index.ntotal, index.dimensions, rows.num_rows, int(live.sum()))
    wanted = (manifest.ntotal, manifest.model.dimensions, manifest.rows, manifest.live)
    if counted != wanted:
        raise CorruptObjectError(
            f"index {manifest.network_id}/{manifest.generation}: vectors, dimensions, rows, live "
            f"rows are {counted}, its manifest says {wanted}"
        )
    probe = np.random.default_rng(PROBE_SEED).standard_normal((1, index.dimensions))
    index.search(probe.astype(np.float32), 10, manifest.search, live)
    return index.ntotal


def _check_batches(store: ObjectVectorStore, network_id: str, model: EmbeddingModel) -> int:
    """Read every batch of the model that the index is made of; how many there are."""
    batches = store.batches(network_id, model)
    for batch in batches:
        store.read(batch, model)
    return len(batches)
