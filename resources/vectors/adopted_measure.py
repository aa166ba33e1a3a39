"""Opens a foreign FAISS index, searches it, and measures how good it is; run in a child process."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fleet.vectors.tuning import measure_recall

MEASURED_MAX_BYTES = 1024**3
"""Vectors that are read back for exact search; more are not, and recall is then not measured."""
QUERIES = 200
K = 10
SEED = 20261121
NOISE = 0.1
"""Of a question, relative to the length of the vector it is made from: a vector that is inside
would find itself in any index."""

_Vectors = np.ndarray[Any, np.dtype[np.float32]]


def measure_index(path: Path) -> dict[str, Any]:
    """Type, metric, speed and, where its vectors can be had, recall.

    Args:
        path: of an index that has been opened and searched before.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(path))
    ip = index.metric_type == faiss.METRIC_INNER_PRODUCT
    l2 = index.metric_type == faiss.METRIC_L2
    found: dict[str, Any] = {
        "kind": type(_inner(faiss, index)).__name__,
        "metric": "inner_product" if ip else "l2" if l2 else f"metric {index.metric_type}",
    }
    if not index.ntotal:
        return {**found, "recall_note": "it holds no vector"}
    if not index.is_trained:
        return {**found, "recall_note": "it is not trained"}
    vectors, ids, why = _vectors_of(faiss, index)
    source = vectors if vectors is not None else _random(index.d)
    questions = _questions(source)
    found["search_ms"] = _median_ms(index, questions)
    if vectors is None or not (ip or l2):
        return {**found, "recall_note": why or "neither inner product nor L2"}
    metric = faiss.METRIC_INNER_PRODUCT if ip else faiss.METRIC_L2
    return {**found, **_recall(faiss, index, vectors, ids, questions, metric)}


def _inner(faiss: Any, index: Any) -> Any:
    """The index below maps of ids and transforms."""
    index = faiss.downcast_index(index)
    while isinstance(index, faiss.IndexIDMap | faiss.IndexIDMap2 | faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return index


def _vectors_of(faiss: Any, index: Any) -> tuple[_Vectors | None, Any, str]:
    """All vectors as the index decodes them, and their ids; or why they cannot be had."""
    if index.ntotal * index.d * 4 > MEASURED_MAX_BYTES:
        return None, None, f"{index.ntotal} vectors are too many to compare with each"
    index = faiss.downcast_index(index)
    try:
        if isinstance(index, faiss.IndexIDMap | faiss.IndexIDMap2):
            inside = faiss.downcast_index(index.index)
            ids = faiss.vector_to_array(index.id_map)
            return inside.reconstruct_n(0, inside.ntotal), ids, ""
        if isinstance(index, faiss.IndexIVF):
            ids = _listed_ids(faiss, index)
            index.set_direct_map_type(faiss.DirectMap.Hashtable)
            return index.reconstruct_batch(ids), ids, ""
        return index.reconstruct_n(0, index.ntotal), np.arange(index.ntotal), ""
    except (RuntimeError, AttributeError) as error:
        said = str(error).strip().splitlines()
        return None, None, f"its vectors cannot be read back: {said[-1] if said else 'no reason'}"


def _listed_ids(faiss: Any, index: Any) -> Any:
    lists = index.invlists
    parts = [
        faiss.rev_swig_ptr(lists.get_ids(one), lists.list_size(one)).copy()
        for one in range(index.nlist)
        if lists.list_size(one)
    ]
    return np.concatenate(parts)


def _random(dimensions: int) -> _Vectors:
    drawn = np.random.default_rng(SEED).standard_normal((QUERIES, dimensions))
    return drawn.astype(np.float32)


def _questions(vectors: _Vectors) -> _Vectors:
    """Vectors near those inside, but none of them."""
    chance = np.random.default_rng(SEED)
    chosen = vectors[chance.choice(len(vectors), min(QUERIES, len(vectors)), replace=False)]
    noise = chance.standard_normal(chosen.shape).astype(np.float32)
    noise *= NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
    return np.ascontiguousarray(
        chosen + noise * np.linalg.norm(chosen, axis=1, keepdims=True), np.float32
    )


def _median_ms(index: Any, questions: _Vectors) -> float:
    index.search(questions[:1], K)  # the first one reads pages that the others find in memory
    taken = []
    for question in questions:
        began = time.perf_counter()
        index.search(question[None, :], K)
        taken.append(time.perf_counter() - began)
    return round(median(taken) * 1000.0, 4)


def _recall(
    faiss: Any, index: Any, vectors: _Vectors, ids: Any, questions: _Vectors, metric: int
) -> dict[str, Any]:
    """Recall with the parameters that the file brings, as its service would load it."""
    k = min(K, len(vectors))
    sign = np.float32(1.0 if metric == faiss.METRIC_INNER_PRODUCT else -1.0)
    truth, _ = faiss.knn(questions, vectors, k, metric=metric)
    _, found = index.search(questions, k)
    place = {int(one): number for number, one in enumerate(ids.tolist())}
    rows = np.array([[place.get(int(one), -1) for one in line] for line in found])
    near = vectors[np.maximum(rows, 0)]
    if metric == faiss.METRIC_INNER_PRODUCT:
        scores = np.einsum("qd,qkd->qk", questions, near)
    else:
        scores = ((questions[:, None, :] - near) ** 2).sum(axis=2)
    scores = np.where(rows >= 0, sign * scores, -np.inf).astype(np.float32)
    measured = measure_recall(scores, np.sort(sign * truth, axis=1)[:, ::-1], {}, SEED)
    return {
        "recall": round(measured.recall, 4),
        "recall_note": f"{len(questions)} questions, against exact search of the vectors that the "
        f"index gives back; interval {measured.low:.4f} to {measured.high:.4f}",
    }
