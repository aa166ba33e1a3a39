"""What the vector store must do on every object store, also when that fails at any of its steps."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import numpy as np
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
    StoreUnavailableError,
    VersionConflictError,
)
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.ports.vector_store import VectorStore
from fleet.vectors.manifest_json import manifest_bytes
from fleet.vectors.records import IndexDelta, IndexManifest, IndexPointer
from resources.object_store.directory import DirectoryObjectStore
from resources.object_store.s3 import S3ObjectStore
from resources.vectors.index_store import ObjectVectorStore
from resources.vectors.network_embeddings import read_embeddings
from tests.fakes.object_store import InMemoryObjectStore
from tests.fleet.vectors.test_refresh import BASE
from tests.resources.vectors.world import AT, MODEL, NETWORK, rows_of

PART_BYTES = 100
_numbers = itertools.count()
Fresh = Callable[[], ObjectStore]
FAULTS = ("before", "after", "lost")


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """A real HTTP server on loopback that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("directory", marks=pytest.mark.long),
        pytest.param("s3", marks=pytest.mark.long),
    ]
)
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fresh]:
    """Makes empty object stores of one kind."""
    if request.param == "memory":
        yield InMemoryObjectStore
        return
    if request.param == "directory":
        yield lambda: DirectoryObjectStore(tmp_path / f"store-{next(_numbers)}")
        return
    yield from _buckets(request.getfixturevalue("s3_endpoint"))


@pytest.fixture
def bucket(s3_endpoint: str) -> Iterator[Fresh]:
    """Makes empty stores in a bucket."""
    yield from _buckets(s3_endpoint)


def _buckets(endpoint: str) -> Iterator[Fresh]:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(connect_timeout=10, read_timeout=30, retries={"total_max_attempts": 2}),
    )
    name = f"b{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    yield lambda: S3ObjectStore(client, name, f"vectors-{next(_numbers)}/")
    client.close()


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


ACTIONS: dict[str, Callable[[Scene], object]] = {
    "append": lambda scene: scene.store.append(NETWORK, MODEL, rows_of([9, 10]), AT, expected=8),
    "publish": lambda scene: scene.publish("g4", 8, 4),
    "publish a delta": lambda scene: scene.publish_delta(
        "g4", 8, next(one for one in scene.store.published(NETWORK) if one.generation == "g3")
    ),
    "rollback": lambda scene: scene.store.rollback(NETWORK, "g1", fence=1, at=AT, reason="test"),
    "keep": lambda scene: scene.store.keep(NETWORK, 1),
    "remove": lambda scene: scene.store.remove(NETWORK, "g1"),
    "compact": lambda scene: scene.store.compact(NETWORK, MODEL, AT, batches_min=2),
    "retain": lambda scene: (
        scene.store.keep(NETWORK, 1),
        scene.store.compact(NETWORK, MODEL, AT, batches_min=2),
        scene.clean(),
    ),
}


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


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long) if name == "retain" else name for name in ACTIONS],
)
def test_a_fault_at_any_step_leaves_the_old_or_the_new_and_a_repetition_completes(
    name: str, fresh: Fresh, tmp_path: Path
) -> None:
    """Each call to the object store fails before, after, or with its answer lost.

    In memory each call fails in one of these ways, in turn; on real stores in all of them. Readers
    see what was or what should be, every listed generation is whole; the same call again ends
    where a sound one ends, and retention then leaves the same objects.
    """
    act = ACTIONS[name]
    objects = filled(tmp_path)
    sound = Scene(begin(fresh, objects), tmp_path)
    before = seen(sound)
    act(sound)
    after = seen(sound)
    sound.clean()
    assert seen(sound) == after
    left = sound.stored()
    for step in itertools.count(1):
        is_over = False
        in_memory = isinstance(sound.objects, InMemoryObjectStore)
        for how in (FAULTS[step % 3],) if in_memory else FAULTS:
            store = begin(fresh, objects)
            faulty = FaultyStore(store, step, how)
            with contextlib.suppress(Crash, StoreUnavailableError):
                act(Scene(faulty, tmp_path))
            is_over = not faulty.failed
            healthy = Scene(store, tmp_path)
            assert seen(healthy) in (before, after), (step, how)
            act(healthy)
            assert seen(healthy) == after, (step, how)
            healthy.clean()
            assert healthy.stored() == left, (step, how)
        if is_over:
            assert step > 2
            return


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


@pytest.mark.parametrize("slow", ["rollback", "keep"])
def test_a_rollback_beside_a_removal_of_its_generation_leaves_a_whole_current_one(
    slow: str, tmp_path: Path
) -> None:
    """The one begins and ends between any two calls of the other, who slept past its lease.

    Whoever wins: what readers are pointed to can be opened, and no listed generation has a hole.
    """
    quick = {"rollback": "keep", "keep": "rollback"}[slow]
    objects, refused = filled(tmp_path), []

    def tried(name: str, scene: Scene) -> None:
        try:
            ACTIONS[name](scene)
        except (NotFoundError, CorruptObjectError, VersionConflictError) as error:
            refused.append((name, type(error)))

    for step in itertools.count(1):
        world = Beside(objects, step, lambda: None)
        scene = Scene(world, tmp_path)
        world.act = lambda scene=scene: tried(quick, scene)  # type: ignore[misc]
        tried(slow, scene)
        if world.left > 0:
            assert step > 10
            break
        scene.clean()
        assert seen(scene).generation in {"g1", "g3"}
    assert {name for name, _ in refused} == {"rollback"}


def test_the_vector_store_works_in_a_bucket(bucket: Fresh, tmp_path: Path) -> None:
    """Append, publish, update, go back, join, keep, remove over HTTP; conflicts are told."""
    scene = Scene(bucket(), tmp_path)
    scene.fill()
    first = seen(scene)
    assert first == Seen(8, tuple(f"note-{one}" for one in (0, 2, 4, 5)), "g3")
    store = scene.store
    assert store.networks() == [NETWORK]
    with pytest.raises(VersionConflictError):
        store.append(NETWORK, MODEL, rows_of([50]), AT, expected=7)
    with pytest.raises(VersionConflictError):
        scene.publish("g9", 8, 3)
    pointer = store.rollback(NETWORK, "g1", fence=2, at=AT, reason="test")
    assert store.newer(pointer) is None
    with pytest.raises(LeaseLostError):
        store.rollback(NETWORK, "g2", fence=1, at=AT, reason="late")
    store.rollback(NETWORK, "g3", fence=2, at=AT, reason="test")
    assert store.compact(NETWORK, MODEL, AT, batches_min=2).runs
    assert store.keep(NETWORK, 1) == ["g1", "g2"]
    scene.clean()
    assert seen(scene) == first
    with pytest.raises(InvalidInputError):
        store.remove(NETWORK, "g3")
    with pytest.raises(NotFoundError):
        store.manifest(NETWORK, "g1")


def test_readers_in_the_middle_find_what_was_joined_until_it_is_old(
    fresh: Fresh, tmp_path: Path
) -> None:
    """A list of batches read before a compaction stays readable; its age decides when it ends."""
    scene = Scene(begin(fresh, filled(tmp_path)), tmp_path)
    store = scene.store
    early = store.batches(NETWORK, MODEL)
    assert store.compact(NETWORK, MODEL, AT, batches_min=2).runs
    joined = store.batches(NETWORK, MODEL)
    assert [(one.first_sequence, one.sequence) for one in joined] == [
        (1, 2),
        (3, 4),
        (5, 6),
        (7, 7),
        (8, 8),
    ]
    assert store.remove_compacted(NETWORK, MODEL, lambda _: False) == 0
    for batches in (early, joined):
        assert read_embeddings(store, batches, MODEL).table.num_rows == 4
    assert store.remove_compacted(NETWORK, MODEL, lambda _: True) > 6
    assert store.remove_compacted(NETWORK, MODEL, lambda _: True) == 0
    assert read_embeddings(store, joined, MODEL).table.num_rows == 4
    again = ObjectVectorStore(scene.objects, tmp_path / "copies")
    assert again.batches(NETWORK, MODEL) == joined
    assert again.batches(NETWORK, MODEL, 6) == joined[3:]
    assert again.last_sequence(NETWORK, MODEL) == 8
    with pytest.raises(NotFoundError, match="1 to 2 were joined"):
        again.batches(NETWORK, MODEL, 1)
    with pytest.raises(VersionConflictError, match="were joined"):
        again.append(NETWORK, MODEL, rows_of([77]), AT, expected=3)
    assert again.append(NETWORK, MODEL, rows_of([77]), AT, expected=8).sequence == 9


def test_a_writer_that_slept_through_a_compaction_and_its_retention_is_told(
    tmp_path: Path,
) -> None:
    """Its entry takes a number that was joined and removed: it does not count, and it hears so."""
    objects = InMemoryObjectStore()
    Scene(objects, tmp_path).fill()

    class Slow(InMemoryObjectStore):
        """Sleeps before the entry of the log is created."""

        def create(self, key: str, data: bytes) -> bool:
            """Create, long after somebody else has joined and removed."""
            if "/log/" in key:
                other = Scene(objects, tmp_path)
                for number in range(2, 8):
                    other.store.append(NETWORK, MODEL, rows_of([number]), AT, expected=number)
                other.publish("g1", 8)
                other.store.compact(NETWORK, MODEL, AT, batches_min=2)
                other.clean()
            return super().create(key, data)

    few = InMemoryObjectStore()
    objects.objects, objects.modified = few.objects, few.modified
    early = Scene(objects, tmp_path)
    for number in range(2):
        early.store.append(NETWORK, MODEL, rows_of([number]), AT, expected=number)
    slow = Slow()
    slow.objects, slow.modified = objects.objects, objects.modified
    late = ObjectVectorStore(slow, tmp_path / "copies")
    with pytest.raises(VersionConflictError, match="up to 8 were joined"):
        late.append(NETWORK, MODEL, rows_of([99]), AT, expected=2)
    scene = Scene(objects, tmp_path)
    assert "note-99" not in seen(scene).notes
    assert seen(scene).last == 8
    scene.clean()
    assert not [one for one in scene.stored() if "/log/" in one]


def test_deletions_are_dropped_only_where_no_earlier_batch_could_have_the_note(
    tmp_path: Path,
) -> None:
    """From the first batch on they go; later ones stay, since an older row would come back."""
    scene = Scene(InMemoryObjectStore(), tmp_path)
    store = scene.store
    store.append(NETWORK, MODEL, rows_of(range(40)), AT, expected=0)
    for number in range(1, 6):
        store.append(NETWORK, MODEL, rows_of([number], deleted=True), AT, expected=number)
    scene.publish("g1", 6)
    store.compact(NETWORK, MODEL, AT, batches_min=2)
    tail = store.batches(NETWORK, MODEL)
    assert [(one.first_sequence, one.sequence, one.rows) for one in tail] == [(1, 1, 40), (2, 6, 5)]
    store.append(NETWORK, MODEL, rows_of(range(40, 80)), AT, expected=6)
    scene.publish("g2", 7)
    store.keep(NETWORK, 1)
    store.compact(NETWORK, MODEL, AT, batches_min=2)
    (whole,) = store.batches(NETWORK, MODEL)
    assert (whole.first_sequence, whole.sequence, whole.rows) == (1, 7, 75)
    assert read_embeddings(store, [whole], MODEL).table.num_rows == 75
    scene.clean()
    assert len([one for one in scene.stored() if one.startswith("embeddings/")]) == 2


def test_what_was_joined_behind_a_new_run_stays_in_the_log_of_compactions(tmp_path: Path) -> None:
    """Its entries are gone, so only the last compaction names it."""
    scene = Scene(InMemoryObjectStore(), tmp_path)
    store, first = scene.store, 0
    for number, count in enumerate((2, 3, 12, 12, 12, 12, 3, 3, 3)):
        store.append(NETWORK, MODEL, rows_of(range(first, first + count)), AT, expected=number)
        first += count
    for generation, sequence in (("g1", 2), ("g2", 6), ("g3", 9)):
        scene.publish(generation, sequence)
    assert len(store.compact(NETWORK, MODEL, AT, batches_min=2).runs) == 3
    scene.clean()
    store.keep(NETWORK, 1)
    assert store.compact(NETWORK, MODEL, AT, batches_min=2).runs == ((1, 6),)
    scene.clean()
    spans = [(one.first_sequence, one.sequence) for one in store.batches(NETWORK, MODEL)]
    assert spans == [(1, 6), (7, 9)]
    assert len(seen(scene).notes) == first


def test_a_remover_never_takes_what_is_being_appended(tmp_path: Path) -> None:
    """An old unnamed object with the same rows: removed at the worst moment, it comes back."""
    objects = InMemoryObjectStore()
    scene = Scene(objects, tmp_path)

    class Raced(InMemoryObjectStore):
        """Somebody removes unnamed data between the data and the entry of an append."""

        def create(self, key: str, data: bytes) -> bool:
            """Create, and let the remover come before the entry."""
            if "/log/" in key:
                scene.store.remove_compacted(NETWORK, MODEL, lambda _: True)
            return super().create(key, data)

    raced = Raced()
    raced.objects, raced.modified = objects.objects, objects.modified
    scene.store.append(NETWORK, MODEL, rows_of([1]), AT, expected=0)
    (entry,) = [key for key in objects.objects if "/log/" in key]
    del objects.objects[entry]
    again = ObjectVectorStore(raced, tmp_path / "copies")
    later = datetime.now(UTC) + timedelta(days=1)
    batch = again.append(NETWORK, MODEL, rows_of([1]), later, expected=0)
    assert again.read(batch, MODEL).num_rows == 1
