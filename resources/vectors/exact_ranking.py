"""Candidates of a device compared again in float32 on the processor: one order for all devices."""

from __future__ import annotations

import numpy as np

from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import Neighbours, Rows
from fleet.vectors.records import NO_ROW, Metric
from resources.vectors.faiss_backend import padded

_GATHERED_BYTES = 64 * 1024**2
"""Of candidates' vectors that are gathered at a time."""


def rank_exactly(
    vectors: Vectors, queries: Vectors, rows: Rows, k: int, metric: Metric
) -> Neighbours:
    """The k best of each question's candidates; equal scores by the lower row.

    Args:
        vectors: (rows, dimensions).
        queries: (queries, dimensions).
        rows: (queries, candidates) row numbers, `NO_ROW` for none, no row twice in one answer.
        k: wanted; more than there are candidates is no error.
        metric: of the vectors.
    """
    scores = np.empty(rows.shape, np.float32)
    step = max(1, _GATHERED_BYTES // max(1, 4 * rows.shape[1] * vectors.shape[1]))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        near = vectors[rows[block]]
        if metric is Metric.L2:
            near -= queries[block][:, None]
            scores[block] = -np.einsum("qkd,qkd->qk", near, near)
        else:
            scores[block] = np.einsum("qkd,qd->qk", near, queries[block])
    scores[rows == NO_ROW] = -np.inf
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return padded(
        np.take_along_axis(scores, order, 1),
        np.take_along_axis(rows, order, 1),
        k,
        Metric.INNER_PRODUCT,
    )


def no_neighbours(queries: int, k: int) -> Neighbours:
    """What a search of nothing finds."""
    none = np.full((queries, k), NO_ROW, np.int64)
    return Neighbours(np.full((queries, k), -np.inf, np.float32), none)
