"""Generations that follow one another: which stay, which can be gone back to, what a node keeps."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
)
from fleet.vectors.records import IndexPointer
from resources.vectors.building import LEFT_AGE_S
from resources.vectors.index_keys import part_key
from resources.vectors.index_store import POINTERS_KEPT
from resources.vectors.local_copies import copy_names
from tests.resources.vectors.world import (
    MODEL,
    NETWORK,
    VectorWorld,
)


def test_old_generations_go_by_policy(tmp_path: Path) -> None:
    """The last three stay, in store and copies; a current one is never removed."""
    world = VectorWorld(tmp_path)
    for number in range(5):
        world.write([number])
        world.refresh()
        world.searcher().search("note-1")
    assert len(world.store.generations(NETWORK)) == 5
    gone = world.store.keep(NETWORK, 3)
    assert len(gone) == 2
    kept = world.store.generations(NETWORK)
    assert len(kept) == 3
    named = copy_names(world.store.manifest(NETWORK, one) for one in kept)
    found = {path.name for path in (world.copies / NETWORK).iterdir()}
    assert found == named
    with pytest.raises(InvalidInputError, match="current"):
        world.store.remove(NETWORK, kept[-1])
    assert not [key for key in world.objects.objects if gone[0] in key]  # type: ignore[attr-defined]
    for one in kept:
        assert world.store.scrub(NETWORK, one) == []
    assert world.store.networks() == [NETWORK]


def test_a_node_that_only_reads_does_not_fill_its_disk(tmp_path: Path) -> None:
    """Copies of what came before go with the next generation, when they are old; others stay."""
    world = VectorWorld(tmp_path)
    (tmp_path / "node").mkdir()
    reader = VectorWorld(tmp_path / "node", world.objects)
    folder = reader.copies / NETWORK
    searcher = reader.searcher()

    def refresh(*, anew: str) -> set[str]:
        world.now += timedelta(seconds=1)
        outcome = world.builder().refresh(NETWORK, MODEL, anew=anew)
        assert searcher.refresh()
        assert outcome.manifest is not None
        return copy_names([outcome.manifest])

    world.write(range(20))
    first = refresh(anew="first")
    world.write(range(30))
    second = refresh(anew="second")
    assert {path.name for path in folder.iterdir()} == first | second
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    world.write(range(40))
    third = refresh(anew="third")
    assert {path.name for path in folder.iterdir()} == third
    assert searcher.search("note-7").candidates == 40


def test_a_kept_generation_stays_in_reach_however_often_the_pointer_moved_since(
    tmp_path: Path,
) -> None:
    """Twenty entries of the log name two of three generations; the third one can be gone back to.

    When it is not kept any more, the log is cut as always.
    """
    world = VectorWorld(tmp_path)
    for number in range(3):
        world.write([number])
        world.refresh()
    store = world.store
    first, *others = (one.generation for one in store.published(NETWORK))
    for number in range(25):
        store.rollback(NETWORK, others[number % 2], fence=0, at=world.now, reason="to and fro")
    assert store.keep(NETWORK, 3) == []
    assert store.remove_leftovers(NETWORK, lambda _: True) == []
    assert store.rollback(NETWORK, first, fence=0, at=world.now, reason="far").generation == first
    store.rollback(NETWORK, others[0], fence=0, at=world.now, reason="back")
    store.rollback(NETWORK, others[1], fence=0, at=world.now, reason="and on")
    assert store.keep(NETWORK, 2) == [first]
    assert len(store.published(NETWORK)) == POINTERS_KEPT


def test_a_rollback_is_a_new_pointer_to_an_old_generation(tmp_path: Path) -> None:
    """Readers go back; later notes come again with a refresh; what is gone or cut is refused."""
    world = VectorWorld(tmp_path)
    for number in range(4):
        world.write([number])
        world.refresh(fence=5)
    searcher, store = world.searcher(), world.store
    assert searcher.search("note-1").candidates == 4
    first, second, third, last = (one.generation for one in store.published(NETWORK))

    def back(generation: str, fence: int = 5) -> IndexPointer:
        return store.rollback(NETWORK, generation, fence=fence, at=world.now, reason="tried out")

    assert back(last).number == 4
    assert len(store.published(NETWORK)) == 4
    with pytest.raises(LeaseLostError):
        back(second, fence=4)
    pointer = back(second)
    assert (pointer.number, pointer.generation, pointer.reason) == (5, second, "tried out")
    assert searcher.refresh()
    assert searcher.search("note-1").candidates == 2
    assert world.refresh(fence=5).plan.new == 2
    assert searcher.refresh()
    assert searcher.search("note-1").candidates == 4
    part = store.manifest(NETWORK, third).parts[-1]
    world.objects.delete([part_key(NETWORK, part)])
    with pytest.raises(CorruptObjectError, match=f"{part.name} has no bytes"):
        back(third)
    assert first in store.keep(NETWORK, 2)
    with pytest.raises(NotFoundError):
        back(first)
    with pytest.raises(NotFoundError, match="is not among the published"):
        back("never")
    assert store.published(NETWORK)[-1].number == 6


def test_what_killed_builders_left_goes_with_the_next_build_a_day_later(tmp_path: Path) -> None:
    """An index of a large network is hundreds of megabytes; nobody else looks for it there."""
    world = VectorWorld(tmp_path)
    old, young, other = (
        world.work / name for name in ("stateroom-index-a", "stateroom-index-b", "notes")
    )
    for folder in (old, young, other):
        folder.mkdir()
        (folder / "index.faiss").write_bytes(b"half")
    for folder in (old, other):
        os.utime(folder, (time.time() - LEFT_AGE_S - 60.0,) * 2)
    world.write(range(200))
    assert world.refresh().pointer is not None
    assert sorted(one.name for one in world.work.iterdir()) == ["notes", "stateroom-index-b"]
