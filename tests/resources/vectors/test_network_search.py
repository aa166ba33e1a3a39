"""Several networks searched as one: against one great list, with what each of them tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import InvalidInputError, NotFoundError, StateroomError
from resources.vectors.network_search import NetworksSearcher
from resources.vectors.reading import PointerWatch
from tests.resources.vectors.world import MODEL, VECTORS, OwnVectors, VectorWorld, rows_of


def fill(world: VectorWorld, network_id: str, numbers: range, model: Any = MODEL) -> Any:
    """Notes of one network and its index; the manifest."""
    last = world.store.last_sequence(network_id, model)
    world.store.append(network_id, model, rows_of(numbers), world.now, expected=last)
    return world.builder().refresh(network_id, model).manifest


@pytest.fixture
def world(tmp_path: Path) -> VectorWorld:
    """Three networks with notes of their own."""
    world = VectorWorld(tmp_path)
    for name, numbers in (("a", range(40)), ("b", range(40, 50)), ("c", range(50, 120))):
        fill(world, name, numbers)
    return world


def searcher_of(world: VectorWorld) -> NetworksSearcher:
    """A searcher that has opened nothing."""
    return NetworksSearcher(world.store, world.backend, OwnVectors(), world.policy)


def true_notes(number: int, numbers: list[int], k: int) -> list[str]:
    """The nearest notes of a list."""
    scores = VECTORS[numbers] @ VECTORS[number]
    return [f"note-{numbers[place]}" for place in np.argsort(-scores, kind="stable")[:k]]


def test_several_networks_answer_as_one_list_of_all_their_notes(world: VectorWorld) -> None:
    """All, some, one; each network tells generation, freshness and how many notes passed."""
    searcher = searcher_of(world)
    spans = {"a": list(range(40)), "b": list(range(40, 50)), "c": list(range(50, 120))}
    for names in (None, ["a", "c"], ["b"], ["c", "a", "c"]):
        numbers = [one for name in sorted(names or spans) for one in spans[name]]
        for number in (7, 2000, 2001):
            found = searcher.search(f"note-{number}", 10, networks=names)
            assert [one.hit.note_id for one in found.hits] == true_notes(
                number, sorted(set(numbers)), 10
            )
            for one in found.hits:
                assert int(one.hit.note_id.rpartition("-")[2]) in spans[one.network_id]
            assert [one.network_id for one in found.answers] == sorted(set(names or spans))
    everything = searcher.search("note-1", 200, where="region = 'us-west-2'")
    assert len(everything.hits) == sum(one % 3 == 0 for one in range(120))
    assert [one.candidates for one in everything.answers] == [14, 3, 23]
    for one in everything.answers:
        current = world.store.current(one.network_id)
        assert current is not None
        assert one.generation == current.generation


def test_a_network_follows_its_own_pointer(world: VectorWorld) -> None:
    """One is updated while others are not; one that is damaged does not hold the others back."""
    searcher = searcher_of(world)
    before = {one.network_id: one.generation for one in searcher.search("note-1").answers}
    fill(world, "b", range(200, 210))
    damaged = fill(world, "a", range(300, 310))
    key = f"indexes/a/generations/{damaged.generation}/{damaged.parts[-1].name}"
    world.objects.replace(key, b"no delta")  # type: ignore[attr-defined]
    with pytest.raises(StateroomError, match=damaged.parts[-1].name):
        searcher.refresh()
    found = searcher.search("note-205", 1)
    assert found.hits[0].network_id == "b"
    after = {one.network_id: one.generation for one in found.answers}
    assert after["b"] != before["b"]
    assert (after["a"], after["c"]) == (before["a"], before["c"])
    watch = PointerWatch(searcher, 60.0)
    watch.close()
    assert damaged.parts[-1].name in str(watch.problem)


def test_what_cannot_be_compared_or_found_is_an_error(world: VectorWorld) -> None:
    """Another model, no network, an unknown one; of all, those without an index are told."""
    searcher = searcher_of(world)
    with pytest.raises(InvalidInputError, match="networks"):
        searcher.search("note-1", networks=[])
    with pytest.raises(NotFoundError, match="network nobody has no vector index"):
        searcher.search("note-1", networks=["a", "nobody"])
    with pytest.raises(InvalidInputError, match="k"):
        searcher.search("note-1", 0)
    assert len(searcher.search("note-1").answers) == 3
    world.store.append("new", MODEL, rows_of([5]), world.now, expected=0)
    assert searcher.search("note-1").without_index == ()
    assert searcher.refresh()
    assert not searcher.refresh()
    assert searcher.search("note-1").without_index == ("new",)
    other = MODEL._replace(revision="2")
    fill(world, "old", range(5), other)
    assert searcher.refresh()
    with pytest.raises(InvalidInputError, match="made the index of old"):
        searcher.search("note-1")
    assert searcher.search("note-1", networks=["a", "b"]).hits


def test_no_network_at_all_is_an_empty_answer(tmp_path: Path) -> None:
    """A fleet that has written nothing yet."""
    found = searcher_of(VectorWorld(tmp_path)).search("note-1")
    assert (found.hits, found.answers, found.without_index) == ((), (), ())
