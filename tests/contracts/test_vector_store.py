"""What the vector store must do on every object store, also when that fails at any of its steps."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
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
from resources.object_store.directory import DirectoryObjectStore
from resources.object_store.s3 import S3ObjectStore
from resources.vectors.index_store import ObjectVectorStore
from resources.vectors.network_embeddings import read_embeddings
from tests.contracts.vector_scene import (
    Beside,
    Crash,
    FaultyStore,
    Fresh,
    Scene,
    Seen,
    begin,
    filled,
    seen,
)
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.vectors.world import AT, MODEL, NETWORK, rows_of

_numbers = itertools.count()
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
