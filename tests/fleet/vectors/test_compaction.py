"""Which batches are joined: never across the end of a generation, few stay, rows move seldom."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fleet.vectors.compaction import BatchRun, plan_compaction
from fleet.vectors.merging import merge_answers
from fleet.vectors.records import EmbeddingBatch, SearchAnswer, SearchHit

AT = datetime(2026, 11, 21, tzinfo=UTC)


def batch(first: int, last: int, rows: int) -> EmbeddingBatch:
    """A batch, joined where it has more than one sequence."""
    joined = None if first == last else first
    return EmbeddingBatch("n", "m", last, rows, 1, "a" * 64, AT, joined)


def appended(*rows: int) -> list[EmbeddingBatch]:
    """Batches as they were appended."""
    return [batch(number, number, count) for number, count in enumerate(rows, start=1)]


def test_runs_are_those_of_the_table() -> None:
    """Equal ones, a great one before, ends of generations, too few, joined ones in parts."""
    parts = [batch(1, 90, 100_000), batch(1, 90, 20_000)]
    little = [batch(number, number, 10) for number in range(91, 95)]
    table = (
        (appended(10, 10, 10), {3}, [(1, 3)]),
        (appended(500, 10, 10, 10), {4}, [(2, 4)]),
        (appended(25, 10, 10, 10), {4}, [(1, 4)]),
        (appended(10, 10, 10, 10, 10), {2, 5}, [(1, 2), (3, 5)]),
        (appended(10, 10, 10, 10, 10), {1, 2, 4}, [(3, 4)]),
        (appended(10, 10, 10), {1, 2, 3}, []),
        (appended(900, 90, 9), {3}, []),
        (appended(10, 10, 500, 10, 10), {5}, [(1, 3), (4, 5)]),
        ([*parts, *little], {94}, [(91, 94)]),
        ([*parts, batch(91, 91, 120_000)], {91}, [(1, 91)]),
        (appended(10, 10, 10), set(), []),
        ([], {7}, []),
    )
    for batches, ends, wanted in table:
        plan = plan_compaction(batches, ends, 2)
        assert plan.runs == tuple(BatchRun(*run) for run in wanted), plan
        assert plan.reason
    few = plan_compaction(appended(10, 10, 10), {3}, 4)
    assert few.runs == ()
    assert "3 batches up to 3, joined from 4 on" in few.reason


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans()), max_size=150), st.integers(2, 20))
def test_batches_stay_few_and_rows_move_a_logarithm_of_times(
    appends: list[tuple[int, bool]], batches_min: int
) -> None:
    """Appended one by one and joined every time: no run has an end inside, nothing is lost."""
    batches: list[EmbeddingBatch] = []
    ends: list[int] = []
    moved = 0
    for number, (rows, is_end) in enumerate(appends, start=1):
        batches.append(batch(number, number, rows))
        ends = [*ends, number][-3:] if is_end else ends
        for run in plan_compaction(batches, ends, batches_min).runs:
            assert not any(run.first <= end < run.last for end in ends)
            inside = [one for one in batches if run.first <= one.first_sequence <= run.last]
            place = batches.index(inside[0])
            total = sum(one.rows for one in inside)
            batches[place : place + len(inside)] = [batch(run.first, run.last, total)]
            moved += total
    total = sum(rows for rows, _ in appends)
    assert sum(one.rows for one in batches) == total
    assert [one.first_sequence for one in batches] == [
        before + 1 for before in (0, *(one.sequence for one in batches[:-1]))
    ][: len(batches)]
    assert moved <= total * (2 + math.log2(max(2, total)))


def answer(network_id: str, *scores: float) -> SearchAnswer:
    """An answer with so many hits."""
    hits = tuple(
        SearchHit(f"{network_id}-{rank}", "a", None, AT, "", score)
        for rank, score in enumerate(scores)
    )
    return SearchAnswer(network_id, f"g-{network_id}", hits, "index", 9, AT, None, 0.96)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 5), max_size=6)),
    st.integers(1, 9),
)
def test_merged_answers_are_the_sorted_union(found: dict[str, list[int]], k: int) -> None:
    """The best k by score, then network, then rank; each network's answer is told whole."""
    answers = [answer(name, *sorted(scores, reverse=True)) for name, scores in found.items()]
    merged = merge_answers(answers, k, ["z", "y"])
    union = sorted(
        (-hit.score, one.network_id, rank, hit.note_id)
        for one in answers
        for rank, hit in enumerate(one.hits)
    )
    assert [(one.network_id, one.hit.note_id) for one in merged.hits] == [
        (name, note_id) for _, name, _, note_id in union[:k]
    ]
    assert merged.without_index == ("y", "z")
    assert [one.generation for one in merged.answers] == [f"g-{name}" for name in sorted(found)]
