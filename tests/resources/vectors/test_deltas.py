"""Deltas beside an index: against a dictionary of notes, in bytes, and in what they share."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import CorruptObjectError, PermanentError, StateroomError
from fleet.vectors import choice, refresh
from fleet.vectors.manifest_json import read_manifest
from fleet.vectors.records import IndexKind, VectorPolicy
from fleet.vectors.refresh import RefreshAction
from resources.vectors.generation_rows import open_delta, open_generation_rows
from resources.vectors.index_store import ObjectVectorStore
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.vectors.test_building import KINDS, Crash
from tests.resources.vectors.world import MODEL, NETWORK, VECTORS, VectorWorld, note_ids


@pytest.fixture(params=KINDS)
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> VectorWorld:
    """A world whose few notes are indexed as many are: flat, by a graph, by lists."""
    kind, flat, graph, churn = KINDS[request.param]
    monkeypatch.setattr(choice, "FLAT_BELOW", flat)
    monkeypatch.setattr(choice, "GRAPH_BELOW", graph)
    world = VectorWorld(tmp_path, policy=VectorPolicy(sample_queries=100, churn_max=churn))
    world.kind = kind  # type: ignore[attr-defined]
    return world


class Twin:
    """The notes of a network as a dictionary: which vector each has now."""

    def __init__(self, world: VectorWorld) -> None:
        """No note yet."""
        self.world = world
        self.notes: dict[int, int] = {}

    def write(self, numbers: list[int], vectors: list[int]) -> None:
        """Add or change notes; `vectors` are the numbers of their vectors."""
        self.world.write(numbers, vectors=VECTORS[vectors])
        self.notes.update(zip(numbers, vectors, strict=True))

    def delete(self, numbers: list[int]) -> None:
        """Take notes back, known or not."""
        self.world.write(numbers, deleted=True)
        for number in numbers:
            self.notes.pop(number, None)

    def share_found(self, searcher: Any) -> float:
        """Recall@10 of 6 questions; what is found must live and stand once."""
        numbers = sorted(self.notes)
        scores = VECTORS[2900:2906] @ VECTORS[[self.notes[one] for one in numbers]].T
        right = wanted = 0
        for row in range(6):
            answer = searcher.search(f"note-{2900 + row}", 10)
            found = [int(one.rpartition("-")[2]) for one in note_ids(answer)]
            assert len(set(found)) == len(found)
            assert set(found) <= self.notes.keys()
            assert answer.candidates == len(numbers)
            last = np.sort(scores[row])[::-1][:10][-1]
            mine = VECTORS[2900 + row] @ VECTORS[[self.notes[one] for one in found]].T
            right += int((mine >= last - 1e-5).sum())
            wanted += min(10, len(numbers))
        return right / wanted


def test_updates_answer_as_a_dictionary_of_notes_does(world: VectorWorld) -> None:
    """Notes added, changed, changed again, deleted, brought back: update by update, seed by seed.

    A reader that follows and one that begins anew see the same; the files hold what is told.
    """
    rng = random.Random(7)
    twin, follower = Twin(world), world.searcher()
    twin.write(list(range(700)), list(range(700)))
    world.refresh()
    actions = set()
    for step in range(6):
        some = rng.sample(range(800), rng.choice((1, 3, 40)))
        if step % 3 == 2:
            twin.delete(some)
        else:
            twin.write(some, rng.choices(range(2800), k=len(some)))
        outcome = world.refresh()
        actions.add(outcome.plan.action)
        follower.refresh()
        share = twin.share_found(follower)
        assert share == 1.0 if world.kind is IndexKind.FLAT else share >= 0.9  # type: ignore[attr-defined]
        manifest = outcome.manifest  # None where only unknown notes were taken back
        assert manifest is None or manifest.live == len(twin.notes)
        assert manifest is None or len(manifest.deltas) <= 4
    world.copies = world.copies / "another node"
    world.store = ObjectVectorStore(world.objects, world.copies)
    fresh = world.searcher()
    assert twin.share_found(fresh) == twin.share_found(follower)
    assert RefreshAction.UPDATE in actions
    changed = fresh.search("note-1", 5, where="note_id in ('note-3', 'note-4') or region is null")
    assert all(hit.region is None or hit.note_id in ("note-3", "note-4") for hit in changed.hits)


def test_an_update_stores_what_changed_and_shares_the_rest(world: VectorWorld) -> None:
    """Bytes of an update are its notes; a fold writes all; parts keep the folder they lie in."""
    world.write(range(1200))
    built = world.refresh().manifest
    assert built is not None
    objects: dict[str, bytes] = world.objects.objects  # type: ignore[attr-defined]
    before = set(objects)
    world.write(range(1200, 1240))
    updated = world.refresh()
    assert updated.plan.action is RefreshAction.UPDATE
    manifest = updated.manifest
    assert manifest is not None
    new = {key for key in set(objects) - before if key.startswith("indexes/")}
    assert sorted(key.rpartition("/")[2] for key in new) == [
        "000000000002.json",
        "delta-000000000002.arrow.0000",
        "manifest.json",
    ]
    per_note = (MODEL.dimensions * 4 + 100) * 40
    assert sum(len(objects[key]) for key in new if "delta" in key) < per_note + 2_000
    assert {part.generation for part in manifest.parts if "delta" not in part.file} == {
        built.generation
    }
    assert (manifest.index_rows, manifest.rows, manifest.ntotal) == (1200, 1240, 1200)
    world.write(range(1240, 2300))
    folded = world.refresh()
    assert folded.plan.action is RefreshAction.FOLD
    assert "1100 rows beside an index of 1200" in folded.plan.reasons[1]
    assert folded.manifest is not None
    assert folded.manifest.deltas == ()
    assert folded.manifest.base_generation == manifest.generation
    assert len(folded.manifest.batches) == 2
    assert folded.manifest.ntotal == 2300
    assert {part.generation for part in folded.manifest.parts} == {folded.manifest.generation}


def test_when_many_rows_end_and_few_are_new_somebody_measures_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundredth of a graph may end unmeasured; beyond that it is folded and asked again."""
    monkeypatch.setattr(choice, "FLAT_BELOW", 10)
    world = VectorWorld(tmp_path, policy=VectorPolicy(sample_queries=100, churn_max=1.0))
    world.write(range(900))
    built = world.refresh().manifest
    assert built is not None
    world.write(range(9), deleted=True)
    kept = world.refresh()
    assert kept.plan.action is RefreshAction.UPDATE
    assert kept.manifest is not None
    assert kept.manifest.recall == built.recall
    world.write([9], deleted=True)
    folded = world.refresh()
    assert folded.plan.action is RefreshAction.FOLD
    assert "10 rows of 900 ended and 0 notes to ask" in folded.plan.reasons[0]
    assert folded.manifest is not None
    assert folded.tuning is not None
    assert folded.tuning.tried[0].queries > 0
    assert (folded.manifest.live, folded.manifest.rows) == (890, 900)


def test_an_update_that_contradicts_the_recall_before_is_tuned_or_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More lists are read; where none are left, it is folded, then rebuilt, then refused."""
    monkeypatch.setattr(choice, "FLAT_BELOW", 10)
    monkeypatch.setattr(choice, "GRAPH_BELOW", 11)
    world = VectorWorld(tmp_path, policy=VectorPolicy(sample_queries=100))
    world.write(range(1500))
    built = world.refresh()
    assert built.manifest is not None
    lying = _lie_about_search(world, {"nprobe": 1})
    assert lying.search == {"nprobe": 1}
    odd = np.random.default_rng(3).standard_normal((60, MODEL.dimensions)).astype(np.float32)
    world.write(range(1500, 1560), vectors=odd)
    tuned = world.refresh()
    assert tuned.plan.action is RefreshAction.UPDATE
    assert tuned.manifest is not None
    assert tuned.manifest.search["nprobe"] > 1
    assert tuned.manifest.recall is not None
    assert tuned.manifest.recall.recall >= 0.95
    monkeypatch.setattr(choice, "_PROBES", (1,))
    _lie_about_search(world, {"nprobe": 1})
    world.write(range(1560, 1620), vectors=odd[::-1])
    with pytest.raises(PermanentError, match="not good enough"):
        world.refresh()
    assert world.store.current(NETWORK) == tuned.pointer._replace(  # type: ignore[union-attr]
        manifest_sha256=world.store.current(NETWORK).manifest_sha256  # type: ignore[union-attr]
    )


def _lie_about_search(world: VectorWorld, search: dict[str, int]) -> Any:
    """Publish the current generation again under other parameters of search."""
    current = world.store.current(NETWORK)
    assert current is not None
    key = f"indexes/{NETWORK}/generations/{current.generation}/manifest.json"
    document = json.loads(world.objects.get(key))
    document["search"] = search
    data = json.dumps(document).encode()
    world.objects.replace(key, data)  # type: ignore[attr-defined]
    pointer = json.loads(
        world.objects.get(f"indexes/{NETWORK}/pointers/{current.number:012d}.json")
    )
    pointer["manifest_sha256"] = hashlib.sha256(data).hexdigest()
    told = json.dumps(pointer).encode()
    world.objects.replace(f"indexes/{NETWORK}/pointers/{current.number:012d}.json", told)  # type: ignore[attr-defined]
    return read_manifest(data, key)


def test_a_generation_of_format_1_is_read_updated_and_kept(tmp_path: Path) -> None:
    """What the version before published: its parts are shared by the first update."""
    world = VectorWorld(tmp_path)
    world.write(range(50))
    built = world.refresh().manifest
    assert built is not None
    key = f"indexes/{NETWORK}/generations/{built.generation}/manifest.json"
    document = json.loads(world.objects.get(key))
    document["format"] = 1
    del document["deltas"]
    for part in document["parts"]:
        del part["generation"]
    data = json.dumps(document).encode()
    world.objects.replace(key, data)  # type: ignore[attr-defined]
    pointer_key = f"indexes/{NETWORK}/pointers/000000000001.json"
    pointer = json.loads(world.objects.get(pointer_key))
    pointer["manifest_sha256"] = hashlib.sha256(data).hexdigest()
    world.objects.replace(pointer_key, json.dumps(pointer).encode())  # type: ignore[attr-defined]
    assert world.searcher().search("note-1").candidates == 50
    world.write([60])
    updated = world.refresh()
    assert updated.plan.action is RefreshAction.UPDATE
    world.store.keep(NETWORK, 1)
    assert world.searcher().search("note-60", 1).hits[0].note_id == "note-60"
    assert world.searcher().search("note-1").candidates == 51


def whole(world: VectorWorld) -> int:
    """Every generation that has a manifest is whole; how many there are."""
    listed = world.store.generations(NETWORK)
    for generation in listed:
        assert world.store.scrub(NETWORK, generation) == [], generation
    return len(listed)


class Failing(InMemoryObjectStore):
    """Dies when the n-th object is deleted, before or after."""

    def __init__(self, objects: InMemoryObjectStore, dies_at: int, *, after: bool) -> None:
        """Share the objects of another store."""
        super().__init__()
        self.objects, self.modified = objects.objects, objects.modified
        self.left, self.after = dies_at, after

    def delete(self, keys: Any) -> None:
        """One by one, until it is time."""
        for key in keys:
            self.left -= 1
            if self.left == 0 and not self.after:
                raise Crash
            super().delete([key])
            if self.left == 0:
                raise Crash


def test_what_a_kept_generation_shares_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Updates, folds, rollbacks, retention and its crashes in any order, and no garbage at last."""
    rng = random.Random(11)
    world = VectorWorld(tmp_path, policy=VectorPolicy(sample_queries=10, delta_share_max=0.01))
    world.write(range(60))
    world.refresh()
    number = 60
    for _ in range(25):
        act = rng.choice(("update", "update", "fold", "rollback", "keep", "crash", "leftovers"))
        world.now += timedelta(seconds=1)
        pointers = world.store.published(NETWORK)
        if act in ("update", "fold"):
            count = rng.randint(1, 5)
            if act == "fold":
                manifest = world.store.manifest(NETWORK, pointers[-1].generation)
                monkeypatch.setattr(refresh, "DELTA_ROWS_MIN", manifest.rows - manifest.index_rows)
            world.write(range(number, number + count))
            number += count
            folded = world.refresh()
            assert folded.manifest is not None
            assert folded.plan.action == (
                RefreshAction.FOLD if act == "fold" else RefreshAction.UPDATE
            )
            monkeypatch.setattr(refresh, "DELTA_ROWS_MIN", 1000)
        elif act == "rollback":
            target = rng.choice(pointers).generation
            if target in world.store.generations(NETWORK):
                world.store.rollback(NETWORK, target, fence=0, at=world.now, reason="any")
        elif act == "keep":
            world.store.keep(NETWORK, rng.randint(1, 3))
        elif act == "crash":
            dying = Failing(world.objects, rng.randint(1, 6), after=rng.random() < 0.5)  # type: ignore[arg-type]
            with contextlib.suppress(Crash):
                ObjectVectorStore(dying, world.copies, 20_000).keep(NETWORK, 1)
        else:
            world.store.remove_leftovers(NETWORK, lambda _: True)
        assert whole(world) >= 1
        current = world.store.current(NETWORK)
        assert current is not None
        assert world.searcher().search("note-5", 1).generation == current.generation
    world.store.keep(NETWORK, 1)
    world.store.remove_leftovers(NETWORK, lambda _: True)
    assert whole(world) == 1
    (last,) = world.store.generations(NETWORK)
    manifest = world.store.manifest(NETWORK, last)
    named = {f"indexes/{NETWORK}/generations/{one.generation}/{one.name}" for one in manifest.parts}
    folder = f"indexes/{NETWORK}/generations/"
    left = {one.key for one in world.objects.list_objects(folder)}
    assert left == {*named, f"{folder}{last}/manifest.json"}


def test_while_a_manifest_cannot_be_read_no_part_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what it names; when it has gone itself, its parts and theirs go."""
    world = VectorWorld(tmp_path)
    for number in range(3):
        world.write([number])
        monkeypatch.setattr(refresh, "DELTA_ROWS_MIN", 0 if number == 2 else 1000)
        world.refresh()
    first, second, third = world.store.generations(NETWORK)
    key = f"indexes/{NETWORK}/generations/{second}/manifest.json"
    manifest = world.objects.get(key)
    world.objects.replace(key, b"{}")  # type: ignore[attr-defined]
    world.store.remove(NETWORK, first)
    assert world.store.generations(NETWORK) == [second, third]
    world.objects.replace(key, manifest)  # type: ignore[attr-defined]
    assert world.store.scrub(NETWORK, second) == []
    world.objects.replace(key, b"{}")  # type: ignore[attr-defined]
    world.store.remove(NETWORK, second)
    world.store.remove_leftovers(NETWORK, lambda _: True)
    assert world.store.scrub(NETWORK, third) == []
    for gone in (first, second):
        assert not world.objects.list_objects(f"indexes/{NETWORK}/generations/{gone}/")


def test_a_delta_that_is_not_that_of_its_manifest_is_refused(tmp_path: Path) -> None:
    """No Arrow, other columns, no list of ended rows, other counts: named, never served."""
    world = VectorWorld(tmp_path)
    world.write(range(20))
    world.refresh()
    world.write([3, 21])
    world.refresh()
    current = world.store.current(NETWORK)
    assert current is not None
    files = world.store.open(current)
    assert len(open_generation_rows(files).vectors) == 2
    delta = files.manifest.deltas[0]
    for wrong in (delta._replace(rows=1), delta._replace(dead_rows=0)):
        lying = files._replace(manifest=files.manifest._replace(deltas=(wrong,)))
        with pytest.raises(CorruptObjectError, match="its manifest says"):
            open_generation_rows(lying)
    with pytest.raises(CorruptObjectError, match="columns"):
        open_delta(files.delta_paths[0], MODEL._replace(dimensions=7))
    for bad in (files.rows_path, __file__, str(tmp_path / "none")):
        with pytest.raises(StateroomError, match="holds no delta"):
            open_delta(bad, MODEL)


def test_updates_go_on_when_batches_were_joined_and_what_cannot_is_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept generations find what came after them; one older than the joined batches begins anew."""
    world = VectorWorld(tmp_path)
    for number in range(12):
        world.write([number, 100 + number % 3])
        if number in (2, 5, 8):
            world.refresh()
    old = world.store.published(NETWORK)[0]
    kept = {
        key: data
        for key, data in world.objects.objects.items()  # type: ignore[attr-defined]
        if old.generation in key
    }
    assert world.store.keep(NETWORK, 2) == [old.generation]
    plan = world.store.compact(NETWORK, MODEL, world.now, batches_min=2)
    assert [tuple(run) for run in plan.runs] == [(1, 3), (4, 6), (7, 9)]
    world.store.remove_compacted(NETWORK, MODEL, lambda _: True)
    world.store = ObjectVectorStore(world.objects, world.copies)
    updated = world.refresh()
    assert updated.plan[:1] + updated.plan[2:] == (RefreshAction.UPDATE, 3, 3, 0)
    assert updated.manifest is not None
    assert (updated.manifest.live, updated.manifest.sequence) == (15, 12)
    searcher = world.searcher()
    assert sorted(note_ids(searcher.search("note-1", 20))) == sorted(
        f"note-{one}" for one in (*range(12), 100, 101, 102)
    )
    back = world.store.published(NETWORK)[-2].generation
    world.store.rollback(NETWORK, back, fence=0, at=world.now, reason="test")
    assert world.refresh().plan.new == 3
    monkeypatch.setattr(refresh, "DELTA_ROWS_MIN", 0)
    world.write([200])
    assert world.refresh().plan.action is RefreshAction.FOLD
    world.store.keep(NETWORK, 1)
    (run,) = world.store.compact(NETWORK, MODEL, world.now, batches_min=2).runs
    assert run == (1, 12)
    for key, data in kept.items():
        world.objects.create(key, data)
    last = world.store.published(NETWORK)[-1].number
    pointer = old._replace(number=last + 1, reason="out of a backup")
    world.store.publish(world.store.manifest(NETWORK, old.generation), pointer)
    assert world.searcher().search("note-1", 20).candidates == 6
    rebuilt = world.refresh()
    assert "batches 1 to 12 were joined" in rebuilt.plan.reasons[0]
    assert rebuilt.manifest is not None
    assert (rebuilt.manifest.live, rebuilt.manifest.deltas) == (16, ())


def test_notes_without_content_come_and_go_beside_an_index(world: VectorWorld) -> None:
    """Zero vectors: never asked, found last, ended like others; an index of nothing else too."""
    world.write(range(300))
    world.refresh()
    blank = np.zeros((40, MODEL.dimensions), np.float32)
    world.write(range(300, 340), vectors=blank)
    updated = world.refresh()
    assert updated.plan.action is RefreshAction.UPDATE
    answer = world.searcher().search("note-7", 10)
    assert note_ids(answer)[0] == "note-7"
    assert answer.candidates == 340
    assert not {f"note-{one}" for one in range(300, 340)}.intersection(note_ids(answer))
    world.write(range(300, 340), deleted=True)
    world.refresh()
    assert world.searcher().search("note-7", 10).candidates == 300
    only = VectorWorld(world.work)
    only.write(range(3), vectors=blank[:3])
    only.refresh()
    only.write([3], vectors=blank[:1])
    only.refresh()
    assert len(only.searcher().search("note-7", 10).hits) == 4
