"""Manifests, the language of filters and BM25: round trips, refusals and twins."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import CorruptObjectError, InvalidInputError, SchemaMismatchError
from fleet.vectors.bm25 import K1, B, Bm25Index, fuse_rankings, words
from fleet.vectors.filter_text import Comparison, Junction, Negation, parse_filter
from fleet.vectors.manifest_json import (
    manifest_bytes,
    pointer_bytes,
    read_manifest,
    read_pointer,
)
from fleet.vectors.records import IndexDelta, IndexPointer, PartFile
from tests.fleet.vectors.test_refresh import AT, BAD, BASE

MANIFEST = BASE._replace(
    recall=BAD,
    batches=("a" * 64,),
    parts=(PartFile("index-0000", "index.faiss", 3, "b" * 64, "g"),),
)
POINTER = IndexPointer("n", 1, "g", "c" * 64, 4, AT, "first")


def test_a_manifest_and_a_pointer_come_back_as_they_were() -> None:
    """Also an empty index's, which has neither recall nor notes."""
    empty = MANIFEST._replace(recall=None, newest_note_at=None, ntotal=0, rows=0, live=0)
    for manifest in (MANIFEST, empty):
        assert read_manifest(manifest_bytes(manifest), "m") == manifest
    assert read_pointer(pointer_bytes(POINTER), "p") == POINTER
    assert MANIFEST.dead_share == pytest.approx(1 / 16)
    assert MANIFEST.size_bytes == 3
    assert empty.dead_share == 0.0


def damaged() -> dict[str, bytes]:
    """What may be found where a manifest should be."""
    document = json.loads(manifest_bytes(MANIFEST))
    return {
        "nothing": b"",
        "binary": bytes(range(256)),
        "cut": manifest_bytes(MANIFEST)[:-20],
        "list": b"[]",
        "field missing": json.dumps({**document, "parts": None}).encode(),
        "kind": json.dumps({**document, "kind": "tree"}).encode(),
        "counts": json.dumps({**document, "live": 10**9}).encode(),
        "negative": json.dumps({**document, "sequence": -1}).encode(),
        "word for number": json.dumps({**document, "rows": "many"}).encode(),
        "not finite": json.dumps({**document, "build_s": math.nan}).encode(),
        "naive": json.dumps({**document, "built_at": "2026-11-21T00:00:00"}).encode(),
    }


@pytest.mark.parametrize("case", damaged())
def test_what_is_no_manifest_is_refused_with_its_name(case: str) -> None:
    """Never a half-read record, never another error."""
    with pytest.raises(CorruptObjectError, match="key-1"):
        read_manifest(damaged()[case], "key-1")
    pointer = damaged()[case].replace(b'"format": 2', b'"format": 1')
    with pytest.raises(CorruptObjectError, match="key-1"):
        read_pointer(pointer, "key-1")


def test_a_newer_format_is_refused_as_such() -> None:
    """The operator is told to use a newer version, not to restore a backup."""
    newer = manifest_bytes(MANIFEST).replace(b'"format": 2', b'"format": 3')
    with pytest.raises(SchemaMismatchError, match="format 3"):
        read_manifest(newer, "m")
    with pytest.raises(SchemaMismatchError, match="format 2"):
        read_pointer(pointer_bytes(POINTER).replace(b'"format": 1', b'"format": 2'), "p")
    zero = pointer_bytes(POINTER._replace(number=0))
    with pytest.raises(CorruptObjectError, match="number 0"):
        read_pointer(zero, "p")


def test_a_manifest_of_format_1_is_read_as_one_without_deltas() -> None:
    """What the version before wrote: no deltas, and parts without the name of a folder."""
    document = json.loads(manifest_bytes(MANIFEST))
    document["format"] = 1
    del document["deltas"], document["parts"][0]["generation"]
    assert read_manifest(json.dumps(document).encode(), "m") == MANIFEST


def test_deltas_must_follow_one_another_up_to_the_last_batch() -> None:
    """Rows of the index file and of deltas are told apart; gaps and overlaps are damage."""
    first = IndexDelta("delta-3.arrow", 2, 3, 40, 7)
    second = IndexDelta("delta-5.arrow", 3, 5, 60, 0)
    changed = MANIFEST._replace(rows=32_100, sequence=5, deltas=(first, second))
    assert read_manifest(manifest_bytes(changed), "m") == changed
    assert (changed.index_rows, changed.index_sequence, first.changes) == (32_000, 2, 47)
    assert (MANIFEST.index_rows, MANIFEST.index_sequence) == (32_000, 3)
    wrong = (
        {"deltas": (first,)},
        {"deltas": (first, second._replace(after=4))},
        {"deltas": (first, second._replace(after=2))},
        {"deltas": (first._replace(dead_rows=-1), second)},
        {"deltas": (first._replace(sequence=2), second._replace(after=2))},
        {"sequence": 6},
        {"live": 30_101},
        {"rows": 30_099},
    )
    for fields in wrong:
        with pytest.raises(CorruptObjectError, match="key-1"):
            read_manifest(manifest_bytes(changed._replace(**fields)), "key-1")  # type: ignore[arg-type]


def test_filters_are_read_as_they_look() -> None:
    """Precedence, brackets, quotes, times, and every operator."""
    when = datetime(2026, 11, 1, tzinfo=UTC)
    west = Comparison("region", "=", ("us-west-2",))
    late = Comparison("created_at", ">", (when,))
    table = {
        "region = 'us-west-2' and created_at > '2026-11-01'": Junction("and", (west, late)),
        "REGION='us-west-2' AND created_at>'2026-11-01T01:00:00+01:00'": Junction(
            "and", (west, late)
        ),
        "text like '%it''s%' or not region is null": Junction(
            "or",
            (
                Comparison("text", "like", ("%it's%",)),
                Negation(Comparison("region", "null", ())),
            ),
        ),
        "agent_id not in ('a', 'b')": Negation(Comparison("agent_id", "in", ("a", "b"))),
        "region is not null": Negation(Comparison("region", "null", ())),
        "(note_id <> 'x')": Comparison("note_id", "!=", ("x",)),
        "note_id='a' or note_id='b' and region = 'us-west-2'": Junction(
            "or",
            (
                Comparison("note_id", "=", ("a",)),
                Junction("and", (Comparison("note_id", "=", ("b",)), west)),
            ),
        ),
    }
    for text, wanted in table.items():
        assert parse_filter(text) == wanted, text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "region",
        "region =",
        "region = us",
        "region = 'a",
        "region = 'a' and",
        "region == 'a'",
        "region = 'a'; drop table notes",
        "size > '3'",
        "created_at > 'yesterday'",
        "created_at like '2026%'",
        "region not = 'a'",
        "(region = 'a'",
        "region in ()",
        "read_csv('/etc/passwd') = 'a'",
        "(" * 60 + "region = 'a'" + ")" * 60,
        "not " * 10_000,
        "'a' = region",
        "region = region",
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    """One clear error; nothing that reaches a database, and no depth that ends the process."""
    with pytest.raises(InvalidInputError):
        parse_filter(text)


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_an_input_error(text: str) -> None:
    """No other exception."""
    try:
        parse_filter(text)
    except InvalidInputError:
        return


def plain_bm25(texts: list[str], query: str) -> list[int]:
    """The formula, text by text."""
    counted = [Counter(words(text)) for text in texts]
    filled = [one.total() for one in counted if one]
    mean = sum(filled) / len(filled) if filled else 1.0
    scores = {}
    for row, one in enumerate(counted):
        score = 0.0
        for word in set(words(query)):
            holding = sum(word in other for other in counted)
            if word in one:
                weight = math.log(1 + (len(filled) - holding + 0.5) / (holding + 0.5))
                norm = K1 * (1 - B + B * one.total() / mean)
                score += weight * one[word] * (K1 + 1) / (one[word] + norm)
        if score > 0:
            scores[row] = np.float32(score)
    return sorted(scores, key=lambda row: (-scores[row], row))


WORDS = ["disk", "host-7", "busy", "磁盘", "10.0.0.1", "Straße"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), max_size=12)


@given(TEXTS, st.sampled_from(["disk", "busy host-7", "STRASSE 磁盘", "none", ""]))
def test_bm25_ranks_as_the_formula_does(texts: list[str], query: str) -> None:
    """The same rows found, best first; scores may tie within a float's last digits."""
    index = Bm25Index(texts)
    wanted = plain_bm25(texts, query)
    assert set(index.rank(query, 100).tolist()) == set(wanted)
    assert set(index.rank(query, 3).tolist()) <= set(wanted)
    mask = np.arange(len(texts)) % 2 == 0
    assert set(index.rank(query, 100, mask).tolist()) == {row for row in wanted if row % 2 == 0}


@given(TEXTS, TEXTS, TEXTS, st.sampled_from(["disk", "busy host-7", "STRASSE 磁盘"]))
def test_words_that_came_later_rank_as_if_they_had_been_there(
    first: list[str], second: list[str], third: list[str], query: str
) -> None:
    """Whatever the order of reading; what was there before answers as it did."""
    before = Bm25Index(first)
    alone = before.rank(query, 100).tolist()
    grown = before.followed_by(second).followed_by(third)
    whole = Bm25Index([*first, *second, *third])
    assert grown.rank(query, 100).tolist() == whole.rank(query, 100).tolist()
    assert before.rank(query, 100).tolist() == alone


def test_bm25_prefers_the_rare_word_and_the_short_text() -> None:
    """The order of a small case, by hand."""
    index = Bm25Index(["disk busy", "disk disk idle all day long", "disk on host-7", "", "cpu"])
    assert index.rank("disk host-7", 3).tolist() == [2, 0, 1]
    assert index.rank("disk", 1).tolist() == [0]
    assert index.rank("host", 5).tolist() == [2]


def test_fusion_ranks_what_both_rankings_like() -> None:
    """1 / (60 + rank), summed; ties by the lower row; what is missing is passed over."""
    rows, scores = fuse_rankings([np.array([5, 2, 9, -1]), np.array([2, 7])], 3)
    assert rows.tolist() == [2, 5, 7]
    assert scores.tolist() == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])
    assert fuse_rankings([], 3)[0].tolist() == []
