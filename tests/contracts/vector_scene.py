"""A vector store of one network, what readers see of it, and stores that fail or are raced."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fleet.errors import (
    StoreUnavailableError,
)
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.ports.vector_store import VectorStore
from fleet.vectors.manifest_json import manifest_bytes
from fleet.vectors.records import IndexDelta, IndexManifest, IndexPointer
from resources.vectors.index_store import ObjectVectorStore
from resources.vectors.network_embeddings import read_embeddings
from tests.fakes.object_store import InMemoryObjectStore
from tests.fleet.vectors.test_refresh import BASE
from tests.resources.vectors.world import AT, MODEL, NETWORK, rows_of

PART_BYTES = 100
Fresh = Callable[[], ObjectStore]


class Crash(BaseException):
    """The process ends here."""


class FaultyStore:
    """The `ObjectStore` port whose n-th call fails: before it, after it, or with its answer lost.

    A deletion of several keys is as many calls, as it is for S3 when a request is cut.
    """

    def __init__(self, inner: ObjectStore, fails_at: int, how: str) -> None:
        """Calls are counted from 1."""
        self._inner, self._left, self._how = inner, fails_at, how
        self.failed = False

    def create(self, key: str, data: bytes) -> bool:
        """See the port."""
        return bool(self._call(lambda: self._inner.create(key, data)))

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See the port."""
        return bytes(self._call(lambda: self._inner.get(key, offset, length)))

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """See the port."""
        found: list[ListedObject] = self._call(lambda: self._inner.list_objects(prefix, after))
        return found

    def delete(self, keys: Iterable[str]) -> None:
        """See the port."""
        for key in keys:
            self._call(lambda: self._inner.delete([key]))  # noqa: B023 - called at once

    def __getattr__(self, name: str) -> Any:
        """What the vector store never calls."""
        return getattr(self._inner, name)

    def _call(self, work: Callable[[], Any]) -> Any:
        self._left -= 1
        if self._left:
            return work()
        self.failed = True
        if self._how == "before":
            raise Crash
        work()
        if self._how == "after":
            raise Crash
        raise StoreUnavailableError("the answer was lost")


class Scene:
    """A vector store of one network with three generations: files, and two deltas beside them."""

    def __init__(self, objects: ObjectStore, folder: Path) -> None:
        """A view of what the object store holds."""
        self.objects = objects
        self.folder = folder
        self.store: VectorStore = ObjectVectorStore(objects, folder / "copies", PART_BYTES)

    def file(self, name: str, size_bytes: int) -> str:
        """A file of the working folder, whose bytes its name decides."""
        path = self.folder / name
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
        path.write_bytes(np.random.default_rng(seed).bytes(size_bytes))
        return str(path)

    def fill(self) -> None:
        """Batches 1 to 8 and generations g1 (up to 2), g2 (up to 4), g3 (up to 6)."""
        for number in range(8):
            gone = number in (3, 7)
            self.store.append(
                NETWORK, MODEL, rows_of([number % 6], deleted=gone), AT, expected=number
            )
        self.publish("g1", 2)
        self.publish_delta("g2", 4)
        self.publish_delta("g3", 6)

    def manifest(self, generation: str, sequence: int) -> IndexManifest:
        """Of files made anew."""
        return BASE._replace(
            network_id=NETWORK, model=MODEL, generation=generation, sequence=sequence
        )

    def publish(self, generation: str, sequence: int, number: int | None = None) -> IndexPointer:
        """Store files made anew and point to them."""
        files = self.file(f"{generation}-index", 350), self.file(f"{generation}-rows", 150)
        staged = self.store.stage(self.manifest(generation, sequence), *files)
        return self._point(staged, number)

    def publish_delta(
        self, generation: str, sequence: int, on: IndexPointer | None = None
    ) -> IndexPointer:
        """Store a delta beside the files of the current generation, or that of a pointer."""
        current = on or self.store.current(NETWORK)
        assert current is not None
        before = self.store.manifest(NETWORK, current.generation)
        delta = IndexDelta(f"delta-{sequence}.arrow", before.sequence, sequence, 2, 1)
        manifest = before._replace(
            generation=generation,
            sequence=sequence,
            rows=before.rows + 2,
            deltas=(*before.deltas, delta),
        )
        staged = self.store.stage_delta(manifest, self.file(f"{generation}-delta", 250))
        return self._point(staged, current.number + 1)

    def _point(self, staged: IndexManifest, number: int | None) -> IndexPointer:
        if number is None:
            number = len(self.store.published(NETWORK)) + 1
        digest = hashlib.sha256(manifest_bytes(staged)).hexdigest()
        told = IndexPointer(staged.network_id, number, staged.generation, digest, 1, AT, "test")
        return self.store.publish(staged, told)

    def clean(self) -> None:
        """What retention does: everything is old."""
        self.store.remove_leftovers(NETWORK, lambda _: True)
        self.store.remove_compacted(NETWORK, MODEL, lambda _: True)

    def stored(self) -> dict[str, bytes]:
        """All that is stored."""
        return {one.key: self.objects.get(one.key) for one in self.objects.list_objects("")}


class Seen(NamedTuple):
    """What readers see."""

    last: int
    notes: tuple[str, ...]
    generation: str
    """The current one, whose files could be opened."""


def seen(scene: Scene) -> Seen:
    """Read everything; every generation that is listed must be whole."""
    store = scene.store
    batches = store.batches(NETWORK, MODEL)
    rows = read_embeddings(store, batches, MODEL).table
    current = store.current(NETWORK)
    assert current is not None
    files = store.open(current)
    assert len(files.delta_paths) == len(files.manifest.deltas)
    for generation in store.generations(NETWORK):
        assert store.scrub(NETWORK, generation) == []
        manifest = store.manifest(NETWORK, generation)
        for after in {manifest.sequence, manifest.index_sequence}:
            later = store.batches(NETWORK, MODEL, after)
            assert [one.first_sequence for one in later[:1]] in ([], [after + 1])
    last = store.last_sequence(NETWORK, MODEL)
    assert last == batches[-1].sequence
    return Seen(last, tuple(sorted(rows.column("note_id").to_pylist())), current.generation)


def filled(tmp_path: Path) -> dict[str, bytes]:
    """The objects that every case begins with."""
    memory = InMemoryObjectStore()
    Scene(memory, tmp_path).fill()
    return dict(memory.objects)


def begin(fresh: Fresh, objects: dict[str, bytes]) -> ObjectStore:
    """A new store with given objects."""
    store = fresh()
    for key, data in objects.items():
        assert store.create(key, data)
    return store


class Beside(InMemoryObjectStore):
    """Somebody else acts right before the n-th call."""

    def __init__(self, objects: dict[str, bytes], calls: int, act: Callable[[], object]) -> None:
        """Both see the same objects."""
        super().__init__()
        for key, data in objects.items():
            super().create(key, data)
        self.left, self.act = calls, act

    def _called(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()

    def create(self, key: str, data: bytes) -> bool:
        """See the port."""
        self._called()
        return super().create(key, data)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See the port."""
        self._called()
        return super().get(key, offset, length)

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """See the port."""
        self._called()
        return super().list_objects(prefix, after)

    def delete(self, keys: Iterable[str]) -> None:
        """See the port."""
        for key in keys:
            self._called()
            super().delete([key])
