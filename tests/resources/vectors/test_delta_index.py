"""An index with vectors beside it answers as one list of all of them does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fleet.vectors.bm25 import Bm25Index
from fleet.vectors.records import NOTE_COLUMNS, IndexDelta, Metric
from resources.vectors.delta_index import with_deltas
from resources.vectors.generation_rows import hits_of
from tests.fleet.vectors.test_refresh import BASE
from tests.resources.vectors.test_faiss_backend import ASKED, BACKEND, BEST, DATA, SPECS
from tests.resources.vectors.world import NETWORK, VectorWorld, note_ids, rows_of

INSIDE = 600
BESIDE = len(DATA) - INSIDE
CASES = {
    "unit vectors beside codes": (Metric.COSINE, "lists", 1.0, 1e-3),
    "unit vectors beside exact ones": (Metric.COSINE, "flat", 1.0, 1e-6),
    "products too large for halves": (Metric.INNER_PRODUCT, "lists", 1e6, 1e-6),
    "distances too large for halves": (Metric.L2, "lists", 1e6, 1e-5),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_beside_is_compared_with_the_digits_that_it_needs(case: str) -> None:
    """All that is near is found; scores beside have an error that changes no order of weight."""
    metric, name, factor, error = CASES[case]
    data, asked = DATA * np.float32(factor), ASKED * np.float32(factor)
    manifest = BASE._replace(
        model=BASE.model._replace(metric=metric),
        kind=SPECS[name].kind,
        rows=len(DATA),
        deltas=(IndexDelta("d", 1, 2, BESIDE, 0),),
    )
    index = BACKEND.build(SPECS[name], data[:INSIDE], metric, 7)
    searched = with_deltas(BACKEND, index, data[INSIDE:], manifest)
    some = np.arange(len(DATA)) % 3 != 0
    truth = BACKEND.exact(data, asked, len(DATA), metric)
    scores = np.empty_like(truth.scores)
    np.put_along_axis(scores, truth.rows, truth.scores, axis=1)
    for mask in (None, some):
        wanted = BACKEND.exact(data, asked, 10, metric, mask)
        answers = [searched.search(asked, 10, BEST[name], mask)]
        answers += [] if mask is None else [searched.scan(asked, 10, mask)]
        for found in answers:
            right = [
                len(set(one) & set(two)) for one, two in zip(found.rows, wanted.rows, strict=True)
            ]
            assert np.mean(right) > 9.5
            beside = found.rows >= INSIDE
            assert 0.2 < beside.mean() < 0.6
            true = np.take_along_axis(scores, found.rows, axis=1)[beside]
            slack = error * np.abs(scores).max()
            assert np.allclose(found.scores[beside], true, rtol=0.0, atol=slack)
    assert with_deltas(BACKEND, index, data[:0], manifest) is index


def test_notes_of_an_answer_come_from_every_chunk_in_the_order_of_the_answer() -> None:
    """As from one table of one chunk."""
    parts = [rows_of(span).select(list(NOTE_COLUMNS)) for span in (range(30), range(30, 34), [99])]
    table = pa.concat_tables(parts)
    found = np.array([33, 0, 34, 29, 30, 7, 31], np.int64)
    scores = np.arange(7, 0, -1).astype(np.float32)
    hits = hits_of(table, found, scores)
    assert hits == hits_of(table.combine_chunks(), found, scores)
    assert [one.note_id for one in hits] == [
        f"note-{number}" for number in (33, 0, 99, 29, 30, 7, 31)
    ]
    assert [one.score for one in hits] == [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    assert hits_of(table, found[:0], scores[:0]) == ()


def test_words_follow_updates_and_read_only_what_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By words, changed and deleted notes are found as they are now; a rollback brings old ones.

    The rows of the index file are read once, whatever is put beside them.
    """
    read: list[int] = []

    class Counted(Bm25Index):
        """Counts the texts that are read."""

        def __init__(self, texts: Any, *before: Any) -> None:
            listed = list(texts)
            read.append(len(listed))
            super().__init__(listed, *before)

    monkeypatch.setattr("resources.vectors.reading.Bm25Index", Counted)
    monkeypatch.setattr("fleet.vectors.bm25.Bm25Index", Counted)
    world = VectorWorld(tmp_path)
    searcher = world.searcher()

    def found(text: str) -> list[str]:
        world.refresh()
        searcher.refresh()
        return sorted(note_ids(searcher.search_words(text, 50)))

    world.write(range(40))
    assert found("t") == sorted(f"note-{one}" for one in range(40))
    first = world.store.published(NETWORK)[-1].generation
    world.write([50, 51])
    assert found("t 50") == sorted([f"note-{one}" for one in (*range(40), 50, 51)])
    world.write([3, 50], deleted=True)
    assert "note-3" not in found("t")
    assert note_ids(searcher.search_words("50")) == []
    assert note_ids(searcher.search_words("51")) == ["note-51"]
    world.store.rollback(NETWORK, first, fence=0, at=world.now, reason="back")
    searcher.refresh()
    assert note_ids(searcher.search_words("3")) == ["note-3"]
    world.write([60])
    assert "note-60" in found("t 60")
    assert note_ids(searcher.search_words("51")) == ["note-51"]
    assert read[0] == 40
    assert sum(read) < 60
