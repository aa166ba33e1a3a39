"""Refresh plans against a dumb twin, and every reason for a rebuild."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.vectors.records import (
    NO_ROW,
    EmbeddingModel,
    IndexDelta,
    IndexKind,
    IndexManifest,
    RecallMeasure,
    VectorPolicy,
)
from fleet.vectors.refresh import (
    RefreshAction,
    RowChanges,
    delta_rows_max,
    diff_rows,
    newest_changes,
    plan_refresh,
    select_swallowed,
)

AT = datetime(2026, 11, 21, tzinfo=UTC)
MODEL = EmbeddingModel("wordllama", "0123456789abcdef", 256)
BASE = IndexManifest(
    network_id="n",
    generation="g",
    model=MODEL,
    kind=IndexKind.IVF,
    factory="IVF512,SQ8",
    ntotal=30_000,
    rows=32_000,
    live=30_000,
    search={"nprobe": 64},
    build={},
    seed=1,
    recall=RecallMeasure(0.96, 0.95, 0.97, 1000, 10, 1, {"nprobe": 64}),
    list_imbalance=1.2,
    trained_imbalance=1.2,
    trained_live=30_000,
    sequence=3,
    batches=(),
    base_generation="",
    newest_note_at=AT,
    parts=(),
    builder="b",
    backend="faiss",
    backend_reason="",
    built_at=AT,
    build_s=1.0,
)
POLICY = VectorPolicy()


def changed(new: int = 0, updated: int = 0, deleted: int = 0) -> RowChanges:
    """Changes of so many notes; rows counted from 0."""
    return RowChanges(
        np.arange(updated + deleted, dtype=np.int64),
        np.arange(new + updated, dtype=np.int64),
        new,
        updated,
        deleted,
    )


@given(
    st.lists(st.integers(0, 30), unique=True, max_size=20),
    st.sets(st.integers(0, 19)),
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=40),
)
def test_the_diff_of_rows_is_that_of_a_dictionary(
    ids: list[int], dead: set[int], changes: list[tuple[int, bool]]
) -> None:
    """Vectorised diff = a dictionary that is changed note by note."""
    rows = np.array([NO_ROW if row in dead else one for row, one in enumerate(ids)], np.int64)
    held = {one: row for row, one in enumerate(rows.tolist()) if one != NO_ROW}
    changed_ids = np.array([one for one, _ in changes], np.int64)
    deleted = np.array([gone for _, gone in changes], bool)
    last = newest_changes(changed_ids)
    found = diff_rows(rows, changed_ids[last], deleted[last])

    wanted = dict(changes)  # the last change of each note wins
    assert {int(changed_ids[place]) for place in last} == set(wanted)
    assert set(found.dead_rows.tolist()) == {held[one] for one in wanted if one in held}
    added = {int(changed_ids[last[place]]) for place in found.added}
    assert added == {one for one, gone in wanted.items() if not gone}
    assert found.new == sum(one not in held and not gone for one, gone in wanted.items())
    assert found.updated == sum(one in held and not gone for one, gone in wanted.items())
    assert found.deleted == sum(one in held and gone for one, gone in wanted.items())


BAD = RecallMeasure(0.9, 0.88, 0.92, 1000, 10, 1, {"nprobe": 64})
GOOD = BAD._replace(recall=0.95)
FLAT = BASE._replace(kind=IndexKind.FLAT, factory="Flat", rows=18_000, ntotal=18_000, live=18_000)

PLANS: dict[str, tuple[Any, RowChanges, dict[str, Any], RefreshAction, str]] = {
    "no note": (None, changed(), {}, RefreshAction.NOTHING, "no note yet"),
    "first": (None, changed(new=1), {}, RefreshAction.REBUILD, "no index yet"),
    "same": (BASE, changed(), {}, RefreshAction.NOTHING, "no note has changed"),
    "few": (BASE, changed(5, 4, 3), {}, RefreshAction.UPDATE, "5 new, 4 changed, 3 deleted"),
    "model": (
        BASE,
        changed(),
        {"model": MODEL._replace(revision="f" * 64)},
        RefreshAction.REBUILD,
        "model",
    ),
    "recall": (BASE, changed(), {"recall": BAD}, RefreshAction.REBUILD, "below 0.95"),
    "recall held": (BASE, changed(), {"recall": GOOD}, RefreshAction.NOTHING, ""),
    "drift": (
        BASE._replace(list_imbalance=1.9),
        changed(),
        {},
        RefreshAction.REBUILD,
        "drifted",
    ),
    "graph without lists": (
        BASE._replace(kind=IndexKind.HNSW, list_imbalance=9.0),
        changed(),
        {},
        RefreshAction.NOTHING,
        "",
    ),
    "dead": (BASE, changed(deleted=8_000), {}, RefreshAction.REBUILD, "dead"),
    "not yet dead": (BASE, changed(deleted=7_600), {}, RefreshAction.FOLD, "7600 ended"),
    "grown": (BASE, changed(new=30_001), {}, RefreshAction.REBUILD, "when it was built"),
    "not yet grown": (BASE, changed(new=30_000), {}, RefreshAction.FOLD, "30000 rows beside"),
    "as much as fits": (BASE, changed(3_000, 200), {}, RefreshAction.UPDATE, ""),
    "too much beside": (BASE, changed(3_001, 200), {}, RefreshAction.FOLD, "3201 rows beside"),
    "too much with deltas": (
        BASE._replace(rows=33_000, ntotal=30_000, deltas=(IndexDelta("d", 2, 3, 1_000, 0),)),
        changed(2_201),
        {},
        RefreshAction.FOLD,
        "3201 rows beside an index of 32000, 0 ended; most is 3200",
    ),
    "never measured": (BASE._replace(recall=None), changed(1), {}, RefreshAction.FOLD, "empty"),
    "flat too big": (FLAT, changed(new=2_000), {}, RefreshAction.REBUILD, "fits better"),
    "flat doubled": (
        FLAT._replace(trained_live=100),
        changed(new=1_000),
        {},
        RefreshAction.UPDATE,
        "",
    ),
}


def test_what_lies_beside_an_index_is_bounded_by_share_and_number() -> None:
    """A tenth of the index, at least 1,000 rows, at most what is compared in 2 ms."""
    found = {rows: delta_rows_max(rows, POLICY) for rows in (0, 9_999, 50_000, 10**9)}
    assert found == {0: 1_000, 9_999: 1_000, 50_000: 5_000, 10**9: 20_000}


@given(st.lists(st.integers(1, 100), max_size=200))
def test_deltas_stay_few_and_a_row_is_written_a_logarithm_of_times(sizes: list[int]) -> None:
    """As a binary counter: each delta is smaller than the one before it, whatever comes."""
    deltas: list[IndexDelta] = []
    written = 0
    for number, size in enumerate(sizes):
        count = len(deltas) - select_swallowed(deltas, size)
        joined = size + sum(one.rows for one in deltas[count:])
        deltas[count:] = [IndexDelta(str(number), 0, 0, joined, 0)]
        written += joined
    rows = [one.rows for one in deltas]
    assert sum(rows) == sum(sizes)
    assert all(later < earlier for earlier, later in itertools.pairwise(rows))
    assert written <= sum(sizes) * (1 + math.log2(max(1, sum(sizes))))


@pytest.mark.parametrize("case", PLANS)
def test_a_refresh_is_planned_with_its_reasons(case: str) -> None:
    """Nothing, update or rebuild: each border of the table."""
    manifest, changes, other, action, words = PLANS[case]
    plan = plan_refresh(
        manifest, changes, other.get("model", MODEL), POLICY, recall=other.get("recall")
    )
    assert plan.action is action, plan
    assert words in "; ".join(plan.reasons)
