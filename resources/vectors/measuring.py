"""Recall of an index against exact search, with questions that it does not hold.

A note that is in a graph is found by its own links more easily than a stranger: asked by its own
notes, a graph of 20,000 seemed to reach 0.959 at efSearch 32, where strangers needed 64 for 0.952.
So a build leaves some notes out, is measured with them and takes them in last, and updates and
folds are measured with what they are about to add. Only where a fold adds too few are notes of the
index asked, each without its own row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import IndexBackend, Mask, Neighbours, Rows, SearchableIndex
from fleet.vectors.records import NO_ROW, Metric, RecallMeasure, VectorPolicy
from fleet.vectors.tuning import TuningVerdict, measure_recall, tune_search

STRANGERS_MIN = 30
"""Fewer new notes than this say little about recall; then notes of the index are asked too, and the
lower of the recall found and the one before is kept."""

SCREEN_QUERIES = 100
"""Asked first: parameters that they rule out are not asked by all. A sweep begins far below."""

_BLOCK = 256
"""Queries whose found vectors are gathered at a time: (256, k, d), not (queries, k, d)."""


class MeasuredIndex(NamedTuple):
    """An index and what it should find."""

    searched: SearchableIndex
    row_ids: Rows
    """External id of each row; `NO_ROW` for a dead one."""
    vectors: Vectors
    """Of notes, in any order."""
    note_ids: Rows
    """Their external ids, in the order of `vectors`."""
    inside: Mask
    """(vectors,) which of them are live notes of the index: all others are not there yet."""


def tune_index(
    backend: IndexBackend,
    measured: MeasuredIndex,
    asked: Rows,
    sweep: tuple[Mapping[str, int], ...],
    metric: Metric,
    policy: VectorPolicy,
) -> TuningVerdict:
    """Find the cheapest parameters of search with which the index reaches the policy's recall.

    Parameters whose interval lies below the target already with a tenth of the questions are not
    asked with all; those that are chosen always are.

    Args:
        backend: searches exactly.
        measured: the index.
        asked: places among `measured.vectors` whose vectors are the questions; none of them zero.
        sweep: parameters, cheapest first.
        metric: of the vectors.
        policy: target, k and seed.
    """
    vectors, k, seed = measured.vectors, policy.recall_k, policy.seed
    if not len(asked) or not measured.inside.any():
        empty = np.zeros((0, k), np.float32)
        return tune_search(sweep[:1], lambda one: measure_recall(empty, empty, one, seed), 0.0)
    queries = np.ascontiguousarray(vectors[asked])
    width = k + int(measured.inside[asked].any())
    mask = None if measured.inside.all() else measured.inside
    truth = _others(backend.exact(vectors, queries, width, metric, mask), asked, k)
    live = measured.row_ids != NO_ROW
    rows_mask = None if measured.searched.ntotal == live.sum() else live
    places = _places(measured.row_ids, measured.note_ids)

    def ask(some: slice, parameters: Mapping[str, int]) -> RecallMeasure:
        found = measured.searched.search(queries[some], width, parameters, rows_mask)
        here = np.where(found.rows == NO_ROW, NO_ROW, places[found.rows])
        scored = Neighbours(_exact_scores(vectors, queries[some], here, metric), here)
        return measure_recall(_others(scored, asked[some], k), truth[some], parameters, seed)

    def measure(parameters: Mapping[str, int]) -> RecallMeasure:
        if len(asked) >= 2 * SCREEN_QUERIES:
            few = ask(slice(None, None, len(asked) // SCREEN_QUERIES), parameters)
            if few.high < policy.recall_target:
                return few
        return ask(slice(None), parameters)

    return tune_search(sweep, measure, policy.recall_target)


def probe_index(
    searched: SearchableIndex,
    queries: Vectors,
    live: Mask,
    sweep: tuple[Mapping[str, int], ...],
    policy: VectorPolicy,
) -> TuningVerdict:
    """Find the cheapest parameters whose recall suffices, without any vector but the questions.

    True neighbours are those of a scan of every stored code. So what rounding to 8 bits costs is
    not in it: that was measured when the index file was made, and no update changes it.

    Args:
        searched: index and deltas, without the notes that ask.
        queries: vectors that it does not hold, none of them zero.
        live: (rows,) which may be found.
        sweep: parameters, cheapest first.
        policy: target, k and seed.
    """
    k = policy.recall_k
    truth = searched.scan(queries, k, live).scores

    def measure(parameters: Mapping[str, int]) -> RecallMeasure:
        found = searched.search(queries, k, parameters, live).scores
        return measure_recall(found, truth, parameters, policy.seed)

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
    """Scores of the k best of each query, itself left out, best first."""
    scores = np.where(found.rows == asked[:, None], np.float32(-np.inf), found.scores)
    return np.asarray(-np.sort(-scores, axis=1)[:, :k])
