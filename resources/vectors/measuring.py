"""Recall of an index against exact search, with notes of its own as the questions.

A note's own row is left out of both answers, or every search would find at least that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import IndexBackend, Neighbours, Rows, VectorIndex
from fleet.vectors.records import NO_ROW, Metric, RecallMeasure, VectorPolicy
from fleet.vectors.sampling import sample_rows
from fleet.vectors.tuning import TuningVerdict, measure_recall, tune_search

_BLOCK = 256
"""Queries whose found vectors are gathered at a time: (256, k, d), not (queries, k, d)."""


class MeasuredIndex(NamedTuple):
    """An index and what it should find."""

    searched: VectorIndex
    row_ids: Rows
    """External id of each row; `NO_ROW` for a dead one."""
    vectors: Vectors
    """Of all live notes."""
    note_ids: Rows
    """Their external ids, in the order of `vectors`."""


def tune_index(
    backend: IndexBackend,
    measured: MeasuredIndex,
    sweep: tuple[Mapping[str, int], ...],
    metric: Metric,
    policy: VectorPolicy,
    *,
    sample_queries: int,
) -> TuningVerdict:
    """Find the cheapest parameters of search with which the index reaches the policy's recall.

    Args:
        backend: searches exactly.
        measured: the index.
        sweep: parameters, cheapest first.
        metric: of the vectors.
        policy: target, k and seed.
        sample_queries: questions asked, 1 or more; zero vectors are none.
    """
    vectors, k, seed = measured.vectors, policy.recall_k, policy.seed
    asked = sample_rows(np.asarray(vectors.any(axis=1)), sample_queries, seed)
    if not len(asked):
        empty = np.zeros((0, k), np.float32)
        return tune_search(sweep[:1], lambda one: measure_recall(empty, empty, one, seed), 0.0)
    queries = vectors[asked]
    truth = _others(backend.exact(vectors, queries, k + 1, metric), asked, k)
    live = measured.row_ids != NO_ROW
    mask = None if measured.searched.ntotal == live.sum() else live
    places = _places(measured.row_ids, measured.note_ids)

    def measure(parameters: Mapping[str, int]) -> RecallMeasure:
        found = measured.searched.search(queries, k + 1, parameters, mask)
        here = np.where(found.rows == NO_ROW, NO_ROW, places[found.rows])
        scored = Neighbours(_exact_scores(vectors, queries, here, metric), here)
        return measure_recall(_others(scored, asked, k), truth, parameters, seed)

    return tune_search(sweep, measure, policy.recall_target)


def _places(row_ids: Rows, note_ids: Rows) -> Rows:
    """Row number -> place of its note among the embeddings; `NO_ROW` for dead rows."""
    places = np.full(len(row_ids), NO_ROW, np.int64)
    order = np.argsort(note_ids, kind="stable")
    found = np.minimum(np.searchsorted(note_ids[order], row_ids), len(order) - 1)
    same = note_ids[order[found]] == row_ids
    places[same] = order[found[same]]
    return places


def _exact_scores(vectors: Vectors, queries: Vectors, places: Rows, metric: Metric) -> Vectors:
    """What exact search would say of the found notes; -inf for none."""
    scores = np.empty(places.shape, np.float32)
    for start in range(0, len(places), _BLOCK):
        block = slice(start, start + _BLOCK)
        near = vectors[places[block]]
        if metric is Metric.L2:
            scores[block] = -((near - queries[block][:, None]) ** 2).sum(axis=2)
        else:
            scores[block] = np.einsum("qd,qkd->qk", queries[block], near)
    return np.where(places == NO_ROW, np.float32(-np.inf), scores)


def _others(found: Neighbours, asked: Rows, k: int) -> Vectors:
    """Scores of the k best others of each query, best first."""
    scores = np.where(found.rows == asked[:, None], np.float32(-np.inf), found.scores)
    return np.asarray(-np.sort(-scores, axis=1)[:, :k])
