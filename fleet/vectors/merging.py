"""Answers of several networks as one: the best k by score, each with where it was found.

Networks are the shards of the fleet's notes: each has an index of its own, so that it is built,
measured and moved by itself. Scores of one model are comparable whatever index they come from.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from fleet.vectors.records import MergedAnswer, NetworkHit, SearchAnswer


def merge_answers(
    answers: Iterable[SearchAnswer], k: int, without_index: Iterable[str] = ()
) -> MergedAnswer:
    """Join answers to one question, all made with one model.

    Args:
        answers: of each network once, its hits best first.
        k: hits wanted; fewer come back when the networks have fewer.
        without_index: networks of which nothing was searched.
    """
    ordered = sorted(answers, key=lambda answer: answer.network_id)
    ranked = [
        [(-hit.score, place, rank, hit) for rank, hit in enumerate(answer.hits)]
        for place, answer in enumerate(ordered)
    ]
    merged = heapq.nsmallest(
        k, (one for ranking in ranked for one in ranking), key=lambda one: one[:3]
    )
    hits = tuple(NetworkHit(ordered[place].network_id, hit) for _, place, _, hit in merged)
    return MergedAnswer(hits, tuple(ordered), tuple(sorted(without_index)))
