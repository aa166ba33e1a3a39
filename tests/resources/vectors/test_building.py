"""From notes to a published index and an answer: builds, updates, rebuilds, refusals, crashes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
    PermanentError,
    VersionConflictError,
)
from fleet.vectors import choice
from fleet.vectors.external_ids import external_ids
from fleet.vectors.records import IndexKind, VectorPolicy
from fleet.vectors.refresh import RefreshAction
from resources.vectors import embedding_rows
from resources.vectors.index_keys import part_key
from resources.vectors.index_store import ObjectVectorStore
from resources.vectors.reading import PointerWatch
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.vectors.test_faiss_backend import D
from tests.resources.vectors.world import (
    MODEL,
    NETWORK,
    VECTORS,
    VectorWorld,
    note_ids,
    rows_of,
    true_notes,
)

KINDS = {
    "flat": (IndexKind.FLAT, 20_000, 500_000, 0.1),
    "graph": (IndexKind.HNSW, 10, 500_000, 1.0),
    "lists": (IndexKind.IVF, 10, 11, 1.0),
}


@pytest.fixture(params=KINDS)
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> VectorWorld:
    """A world whose few notes are indexed as many are: flat, by a graph, by lists."""
    _kind, flat, graph, churn = KINDS[request.param]
    monkeypatch.setattr(choice, "FLAT_BELOW", flat)
    monkeypatch.setattr(choice, "GRAPH_BELOW", graph)
    world = VectorWorld(tmp_path, policy=VectorPolicy(sample_queries=100, churn_max=churn))
    world.kind = KINDS[request.param][0]  # type: ignore[attr-defined]
    return world


def recall(
    world: VectorWorld, alive: list[int], where: str | None = None, vectors: Any = VECTORS
) -> float:
    """Share of the true neighbours that 20 searches return; they return living notes only."""
    searcher = world.searcher()
    found = wanted = 0
    for number in range(2000, 2020):
        answer = note_ids(searcher.search(f"note-{number}", 10, where=where))
        assert set(answer) <= {f"note-{one}" for one in alive}
        true = true_notes(VECTORS[number], alive, 10, vectors)
        found, wanted = found + len(set(answer) & set(true)), wanted + len(true)
    return found / wanted


def test_notes_become_an_index_that_follows_them(world: VectorWorld) -> None:
    """Build, add, change, delete: each generation answers as exact search over what lives."""
    world.write(range(1000))
    built = world.refresh()
    assert built.plan.action is RefreshAction.REBUILD
    assert built.manifest is not None
    assert built.manifest.kind is world.kind  # type: ignore[attr-defined]
    assert built.manifest.recall is not None
    assert built.manifest.recall.recall >= 0.95
    assert recall(world, list(range(1000))) >= 0.9

    world.write(range(1000, 1100))
    world.write([3, 4, 5], vectors=VECTORS[[2003, 2004, 2005]])
    world.write(range(100, 160), deleted=True)
    updated = world.refresh()
    assert updated.plan[0] is RefreshAction.UPDATE
    assert updated.plan[2:] == (100, 3, 60)
    manifest = updated.manifest
    assert manifest is not None
    assert (manifest.live, manifest.rows, manifest.sequence) == (1040, 1103, 4)
    assert manifest.base_generation == built.manifest.generation
    assert len(manifest.batches) == 3
    now = VECTORS.copy()
    now[[3, 4, 5]] = VECTORS[[2003, 2004, 2005]]
    alive = [one for one in range(1100) if not 100 <= one < 160]
    assert recall(world, alive, vectors=now) >= 0.85
    searcher = world.searcher()
    for number in (3, 4, 5):
        assert note_ids(searcher.search(f"note-{2000 + number}", 1)) == [f"note-{number}"]
    west = [one for one in alive if one % 3 == 0 and one != 9]
    assert recall(world, west, "region = 'us-west-2' and note_id != 'note-9'", now) > 0.9
    assert world.refresh().plan.action is RefreshAction.NOTHING


def test_too_many_dead_rows_are_a_rebuild_and_none_left_is_an_empty_index(
    world: VectorWorld,
) -> None:
    """A rebuilt index has no dead rows; an empty one answers with nothing."""
    world.write(range(600))
    world.refresh()
    world.write(range(300), deleted=True)
    rebuilt = world.refresh()
    assert rebuilt.plan.action is RefreshAction.REBUILD
    assert "dead" in rebuilt.plan.reasons[0]
    assert rebuilt.manifest is not None
    assert (rebuilt.manifest.rows, rebuilt.manifest.dead_share) == (300, 0.0)
    world.write(range(300, 600), deleted=True)
    emptied = world.refresh()
    assert emptied.manifest is not None
    assert (emptied.manifest.live, emptied.manifest.recall) == (0, None)
    assert world.searcher().search("note-1").hits == ()
    world.write([1])
    world.refresh()
    assert note_ids(world.searcher().search("note-2", 5)) == ["note-1"]


def test_without_a_note_there_is_no_index(tmp_path: Path) -> None:
    """Nothing is published, and a search says what to do."""
    world = VectorWorld(tmp_path)
    assert world.refresh().plan.action is RefreshAction.NOTHING
    with pytest.raises(NotFoundError, match="no vector index"):
        world.searcher().search("note-1")
    assert world.store.networks() == []


def test_below_the_target_nothing_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what was reached and wanted; readers keep the generation before."""
    world = VectorWorld(tmp_path)
    world.write(range(600))
    good = world.refresh()
    monkeypatch.setattr(choice, "FLAT_BELOW", 10)
    monkeypatch.setattr(choice, "_EFFORTS", (1,))
    monkeypatch.setattr(choice, "GRAPH_LINKS", 2)
    monkeypatch.setattr(choice, "GRAPH_EFFORT", 1)
    world.write(range(600, 900))
    with pytest.raises(PermanentError, match=r"not good enough: best is recall@10 0\.\d+.*0\.95"):
        world.refresh()
    current = world.store.current(NETWORK)
    assert current == good.pointer
    assert world.store.generations(NETWORK) == [current.generation]  # type: ignore[union-attr]
    assert list(world.work.iterdir()) == []


def test_one_of_two_builders_wins_and_an_old_term_never(tmp_path: Path) -> None:
    """Both saw the same pointer: the second is refused; a lower fence is refused for good."""
    world = VectorWorld(tmp_path)
    world.write(range(100))

    class Overtaken(ObjectVectorStore):
        """Somebody else publishes between our staging and our publication."""

        def publish(self, *given: Any) -> Any:
            other = world.builder().refresh(NETWORK, MODEL, 7)
            assert other.pointer is not None
            return super().publish(*given)

    late = Overtaken(world.objects, world.copies)
    with pytest.raises(LeaseLostError, match="term 6 has ended"):
        world.builder(late).refresh(NETWORK, MODEL, 6)
    assert len(world.store.published(NETWORK)) == 1
    world.write(range(100, 200))
    with pytest.raises(VersionConflictError, match="pointer 2 cannot follow"):
        world.builder(late).refresh(NETWORK, MODEL, 7)
    current = world.store.current(NETWORK)
    assert current is not None
    assert (current.number, current.fence) == (2, 7)
    assert len(world.store.remove_leftovers(NETWORK, lambda _: True)) == 2
    assert len(world.searcher().search("note-1", 10).hits) == 10


class Crash(BaseException):
    """The process ends here."""


class DyingStore(InMemoryObjectStore):
    """Dies before or after the n-th create."""

    def __init__(self, objects: InMemoryObjectStore, dies_at: float) -> None:
        """Share the objects of another store."""
        super().__init__()
        self.objects, self.modified = objects.objects, objects.modified
        self.left = dies_at

    def create(self, key: str, data: bytes) -> bool:
        """Create, unless it is time."""
        self.left -= 0.5
        if self.left <= 0:
            raise Crash
        done = super().create(key, data)
        self.left -= 0.5
        if self.left <= 0:
            raise Crash
        return done


def test_a_crash_at_any_step_of_a_publication_leaves_the_old_or_the_new_index(
    tmp_path: Path,
) -> None:
    """Killed before and after every object that is created; the next run completes."""
    first = VectorWorld(tmp_path)
    first.write(range(200))
    first.refresh()
    first.write(range(200, 220))
    before, steps = first.objects.copy(), 0  # type: ignore[attr-defined]
    while True:
        steps += 1
        objects = before.copy()
        world = VectorWorld(tmp_path, objects)
        world.now = first.now
        dying = ObjectVectorStore(DyingStore(objects, steps / 2), world.copies, 20_000)
        try:
            world.builder(dying).refresh(NETWORK, MODEL)
        except Crash:
            found = world.searcher().search("note-210", 1)
            assert note_ids(found) == true_notes(VECTORS[210], range(found.candidates), 1)
            outcome = world.refresh()
            assert world.searcher().search("note-210", 1).candidates == 220
            old = world.store.remove_leftovers(NETWORK, lambda _: True)
            assert len(old) == (outcome.plan.action is RefreshAction.UPDATE and steps > 1)
        else:
            break
    assert steps == 7  # before and after each of delta, manifest and pointer
    assert world.searcher().search("note-210", 1).candidates == 220


def test_a_swap_loses_no_question_and_a_damaged_generation_swaps_nothing(tmp_path: Path) -> None:
    """Threads ask all the time while five generations are published; each answer is one's own."""
    world = VectorWorld(tmp_path)
    world.write(range(50))
    world.refresh()
    searcher, ended, failures, seen = world.searcher(), threading.Event(), [], set()

    def ask() -> None:
        while not ended.is_set():
            answer = searcher.search("note-7", 3)
            seen.add((answer.generation, answer.candidates))
            if note_ids(answer)[0] != "note-7":
                failures.append(answer)

    searcher.refresh()
    watch = PointerWatch(searcher, 0.01)
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(5):
        world.write(range(50 + 10 * number, 60 + 10 * number))
        newest = world.refresh().manifest
        assert newest is not None
        while searcher.generation != newest.generation:
            ended.wait(0.005)
    ended.set()
    for thread in threads:
        thread.join()
    watch.close()
    watch.close()
    assert failures == []
    assert len({generation for generation, _ in seen}) == len(seen) >= 2

    world.write([2000])
    damaged = world.refresh().manifest
    assert damaged is not None
    last = damaged.parts[-1]
    world.objects.replace(part_key(NETWORK, last), b"\0" * last.size_bytes)  # type: ignore[attr-defined]
    with pytest.raises(CorruptObjectError, match=last.name):
        searcher.refresh()
    assert searcher.generation == newest.generation
    assert note_ids(searcher.search("note-7", 1)) == ["note-7"]
    watch = PointerWatch(searcher, 0.01)
    while watch.problem is None:
        ended.clear()
        ended.wait(0.005)
    watch.close()
    assert world.store.scrub(NETWORK, newest.generation) == []
    assert len(world.store.scrub(NETWORK, damaged.generation)) == 1
    healed = world.refresh()
    assert "damaged" in healed.plan.reasons[0]
    assert healed.manifest is not None
    searcher.refresh()
    assert searcher.generation == healed.manifest.generation


def test_questions_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """k, filter, width, another model; hybrid and filtered answers say how they were found."""
    world = VectorWorld(tmp_path)
    world.write(range(40))
    world.refresh()
    searcher = world.searcher()
    for bad in ({"k": 0}, {"k": 10_001}, {"where": "size > '3'"}):
        with pytest.raises(InvalidInputError):
            searcher.search("note-1", **bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="vector"):
        searcher.search_vector(np.ones(D + 1))
    with pytest.raises(InvalidInputError, match="vector"):
        searcher.search_vector([np.nan] * D)
    assert len(searcher.search("note-1", 100).hits) == 40
    assert searcher.search("note-1", where="region = 'nowhere'").hits == ()
    some = searcher.search("note-1", 50, where="created_at < '2026-11-21T12:00:10Z'")
    assert (some.candidates, len(some.hits), some.method) == (10, 10, "exact on the subset")
    both = searcher.search("note-1", 5, where="region is null", hybrid=True)
    assert both.method == "exact on the subset + bm25"
    assert all(hit.region is None for hit in both.hits)
    assert both.freshness_s(world.now) == 0.0
    searcher._embedder = type("Other", (), {"model": MODEL._replace(revision="2")})()
    with pytest.raises(InvalidInputError, match="which made the index"):
        searcher.search("note-1")


def test_batches_are_refused_before_anything_is_stored(tmp_path: Path) -> None:
    """NaN, wrong width, a note twice, a wrong number, a null, no row, a gap, a lost race."""
    world = VectorWorld(tmp_path)
    good = rows_of(range(4))
    ids = good.schema.names.index("external_id")
    vectors = VECTORS[:4].copy()
    vectors[2, 3] = np.nan
    import pyarrow as pa

    bad = {
        "columns": good.drop_columns(["text"]),
        "pyarrow.Table": "rows",
        "rows: 0": good.slice(0, 0),
        r"vector\[2\]": rows_of(range(4), vectors=vectors),
        "fixed_size_list": rows_of(range(4), vectors=np.ones((4, 3), np.float32)),
        "each note once": pa.concat_tables([good, good]),
        "the number of 'note-0'": good.set_column(ids, good.schema.field(ids), [[1, 2, 3, 4]]),
        "no null": good.set_column(
            0, good.schema.field(0), pa.array([None, "a", "b", "c"], pa.string())
        ),
    }
    for words, rows in bad.items():
        with pytest.raises(InvalidInputError, match=words):
            world.store.append(NETWORK, MODEL, rows, world.now, expected=0)
    with pytest.raises(VersionConflictError, match="batch 3 does not exist"):
        world.store.append(NETWORK, MODEL, good, world.now, expected=3)
    assert world.objects.objects == {}  # type: ignore[attr-defined]
    first = world.store.append(NETWORK, MODEL, good, world.now, expected=0)
    assert world.store.append(NETWORK, MODEL, good, world.now, expected=0) == first
    with pytest.raises(VersionConflictError, match="exists already"):
        world.store.append(NETWORK, MODEL, rows_of([9]), world.now, expected=0)
    gone = rows_of([1], vectors=np.full((1, D), np.nan, np.float32), deleted=True)
    world.store.append(NETWORK, MODEL, gone, world.now, expected=1)
    world.refresh()
    assert len(world.searcher().search("note-1", 10).hits) == 3


def test_two_notes_of_one_number_are_never_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With numbers of 3 bits two batches collide: both notes are named, nothing is published."""
    monkeypatch.setattr(
        embedding_rows, "external_ids", lambda note_ids: external_ids(note_ids, bits=3)
    )
    world = VectorWorld(tmp_path)
    for number in range(9):
        world.write([number])
    with pytest.raises(InvalidInputError, match=r"note-\d.*note-\d"):
        world.refresh()
    assert world.store.current(NETWORK) is None


def test_damaged_embeddings_are_never_read(tmp_path: Path) -> None:
    """Flipped, cut, swapped or missing data, a damaged entry, a hole in the log."""
    world = VectorWorld(tmp_path)
    for number in range(3):
        world.write([number])
    objects: dict[str, bytes] = dict(world.objects.objects)  # type: ignore[attr-defined]
    data = [key for key in objects if key.endswith(".parquet")]
    log = [key for key in objects if key.endswith(".json")]
    flipped = bytes([objects[data[0]][50] ^ 1])
    damages: dict[str, bytes | None] = {
        "flip": objects[data[0]][:50] + flipped + objects[data[0]][51:],
        "cut": objects[data[0]][:-1],
        "swap": objects[data[1]],
        "missing": None,
    }
    for key, cases in (
        (data[0], damages),
        (log[1], {"hole": None, "swap": objects[log[2]], "x": b"{}"}),
    ):
        for damage in cases.values():
            damaged = InMemoryObjectStore()
            damaged.objects = {**objects, key: damage or b""}
            damaged.modified = dict.fromkeys(objects, world.now)
            if damage is None:
                del damaged.objects[key]
            with pytest.raises(CorruptObjectError):
                VectorWorld(tmp_path, damaged).refresh()
            assert not [one for one in damaged.objects if one.startswith("indexes/")]
