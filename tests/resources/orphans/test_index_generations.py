"""Files of indexes that were never published: found, and removed unless somebody publishes them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fleet.errors import VersionConflictError
from fleet.vectors.manifest_json import manifest_bytes, pointer_bytes
from fleet.vectors.records import IndexPointer
from resources.orphans.index_generations import IndexGenerations
from resources.vectors.index_store import ObjectVectorStore
from tests.fakes.clock import ManualClock
from tests.fakes.object_store import InMemoryObjectStore
from tests.fleet.vectors.test_refresh import BASE
from tests.resources.vectors.world import VectorWorld

PARTS = ("index-0000", "rows-0000")
SIZE_BYTES = 10 + len(manifest_bytes(BASE._replace(network_id="a", generation="g2")))


class World:
    """One published generation and one left over, in each of two networks."""

    def __init__(self, folder: Path) -> None:
        """Write them as builders do."""
        self.clock = ManualClock()
        self.objects = InMemoryObjectStore(self.clock.now)
        self.readers = IndexGenerations(self.objects, ObjectVectorStore(self.objects, folder))
        for network in ("a", "b"):
            self.publish(network, "g1", 1)
            self.stage(network, "g2")

    def stage(self, network: str, generation: str) -> None:
        """A manifest and parts, unless they are there."""
        folder = f"indexes/{network}/generations/{generation}"
        manifest = BASE._replace(network_id=network, generation=generation)
        self.objects.create(f"{folder}/manifest.json", manifest_bytes(manifest))
        for part in PARTS:
            self.objects.create(f"{folder}/{part}", b"12345")

    def publish(self, network: str, generation: str, number: int) -> None:
        """A pointer, and files if there are none."""
        self.stage(network, generation)
        pointer = IndexPointer(network, number, generation, "s", 1, self.clock.now(), "test")
        key = f"indexes/{network}/pointers/{number:012d}.json"
        assert self.objects.create(key, pointer_bytes(pointer))

    def keys(self, network: str) -> set[str]:
        """Generations that have files."""
        listed = self.objects.list_objects(f"indexes/{network}/generations/")
        return {one.key.split("/")[3] for one in listed}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Stores of their own."""
    return World(tmp_path)


def test_generations_that_no_pointer_names_are_found_and_removed_one_by_one(world: World) -> None:
    """With the bytes of all their parts; the other network keeps its own."""
    first, second = world.readers.orphans()
    assert (first.subject, first.size_bytes, first.newest_at) == (
        "a/g2",
        SIZE_BYTES,
        world.clock.now(),
    )
    assert second.subject == "b/g2"
    assert world.readers.remove(first) == SIZE_BYTES
    assert (world.keys("a"), world.keys("b")) == ({"g1"}, {"g1", "g2"})


def test_a_generation_that_is_published_or_written_meanwhile_stays(world: World) -> None:
    """It has come to life since it was looked at."""
    first, second = world.readers.orphans()
    world.publish("a", "g2", 2)
    world.clock.advance(timedelta(minutes=1).total_seconds())
    world.objects.create("indexes/b/generations/g2/more", b"1")
    for one in (first, second):
        with pytest.raises(VersionConflictError, match="written or published since"):
            world.readers.remove(one)
    assert world.keys("a") == world.keys("b") == {"g1", "g2"}


def test_a_removal_that_was_cut_off_is_finished_by_the_next(world: World) -> None:
    """The manifest goes first: what is left is still found, and smaller."""
    world.objects.delete(["indexes/a/generations/g2/manifest.json"])
    first, _ = world.readers.orphans()
    assert first.size_bytes == 10
    assert world.readers.remove(first) == 10
    assert world.keys("a") == {"g1"}


def test_a_folder_whose_parts_a_published_index_shares_is_not_left_over(tmp_path: Path) -> None:
    """Once its own pointer has gone with the old ones, an update still reads its base's parts."""
    texts = VectorWorld(tmp_path)
    texts.write(range(400))
    first = texts.refresh().pointer
    texts.write(range(400, 404))
    second = texts.refresh().pointer
    assert first is not None
    assert second is not None
    update = texts.store.manifest(second.network_id, second.generation)
    assert update.parts[0].generation == first.generation
    texts.objects.delete([f"indexes/{first.network_id}/pointers/{first.number:012d}.json"])
    assert list(IndexGenerations(texts.objects, texts.store).orphans()) == []


@pytest.mark.parametrize("damaged", ["generations/g1/manifest.json", "pointers/000000000001.json"])
def test_while_a_manifest_or_pointer_is_damaged_nothing_of_its_network_is_left_over(
    world: World, damaged: str
) -> None:
    """Which parts it shares, or which generation it names, is not known; others are looked at."""
    world.objects.delete([f"indexes/a/{damaged}"])
    world.objects.create(f"indexes/a/{damaged}", b"{")
    (only,) = world.readers.orphans()
    assert only.subject == "b/g2"
    assert world.readers.remove(only) == SIZE_BYTES
