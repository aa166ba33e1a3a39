"""What every object store must do, on a directory and on S3's protocol over HTTP."""

import multiprocessing
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from fleet.errors import InvalidInputError, NotFoundError, PermanentError, StoreUnavailableError
from fleet.ports.object_store import ObjectStore
from resources.object_store.directory import DirectoryObjectStore
from resources.object_store.probe import probe_store
from resources.object_store.retrying import Retrying
from resources.object_store.s3 import S3ObjectStore
from tests.fakes.object_store import InMemoryObjectStore


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """A real HTTP server on loopback that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_client(endpoint: str) -> object:
    """A client with short time limits and one retry."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2}),
    )


@pytest.fixture(params=["directory", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    """Each adapter and the fake in turn, empty."""
    if request.param == "memory":
        yield InMemoryObjectStore()
        return
    if request.param == "directory":
        yield DirectoryObjectStore(tmp_path / "vault")
        return
    client = s3_client(request.getfixturevalue("s3_endpoint"))
    bucket = f"b{uuid.uuid4().hex}"
    client.create_bucket(Bucket=bucket)  # type: ignore[attr-defined]
    yield S3ObjectStore(client, bucket, "region-copy/")
    client.close()  # type: ignore[attr-defined]


def test_what_was_created_is_read_back_whole_and_by_range(store: ObjectStore) -> None:
    """Ranges may end behind the object; they never give other bytes."""
    assert store.create("packs/net/a.pack", b"0123456789") is True
    assert store.get("packs/net/a.pack") == b"0123456789"
    assert store.get("packs/net/a.pack", 3, 4) == b"3456"
    assert store.get("packs/net/a.pack", 8) == b"89"
    assert store.get("packs/net/a.pack", 8, 99) == b"89"
    assert store.get("packs/net/a.pack", 99, 5) == b""
    assert store.get("packs/net/a.pack", 3, 0) == b""


def test_a_second_create_is_refused_and_changes_nothing(store: ObjectStore) -> None:
    """The one primitive: create-only."""
    assert store.create("log/1.json", b"first")
    assert store.create("log/1.json", b"second") is False
    assert store.get("log/1.json") == b"first"


def test_of_many_writers_of_one_key_exactly_one_wins(store: ObjectStore) -> None:
    """Eight threads race for each of twenty slots; each slot holds its winner's bytes."""
    wins: list[tuple[int, int]] = []

    def race(writer: int) -> None:
        mine = str(writer).encode()
        wins.extend(
            (slot, writer) for slot in range(20) if store.create(f"log/{slot:04d}.json", mine)
        )

    threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slot for slot, _ in wins) == list(range(20))
    for slot, winner in wins:
        assert store.get(f"log/{slot:04d}.json") == str(winner).encode()


def test_a_listing_is_ordered_and_begins_after_the_given_key(store: ObjectStore) -> None:
    """Only keys of the prefix, also when the prefix ends inside a name."""
    keys = [f"log/net/{n:03d}.json" for n in (3, 1, 2, 10)]
    for key in [*keys, "log/net2/001.json", "packs/x"]:
        store.create(key, b"xy")
    assert [one.key for one in store.list_objects("log/net/")] == sorted(keys)
    assert [one.key for one in store.list_objects("log/net/", "log/net/002.json")] == [
        "log/net/003.json",
        "log/net/010.json",
    ]
    assert [one.key for one in store.list_objects("log/net/01")] == ["log/net/010.json"]
    assert len(store.list_objects("")) == 6
    assert {one.size_bytes for one in store.list_objects("log/")} == {2}
    assert store.list_objects("nothing/") == []


def test_deleting_is_repeatable(store: ObjectStore) -> None:
    """Keys that are not there are passed over; the key can be created again."""
    store.create("a/b", b"1")
    store.delete(["a/b", "a/c"])
    store.delete(["a/b"])
    with pytest.raises(NotFoundError, match="a/b"):
        store.get("a/b")
    assert store.create("a/b", b"2")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../x", "a/../b", "a\x00b", ".tmp/x", "a/é"])
def test_a_dangerous_key_is_refused_by_every_call(store: ObjectStore, key: str) -> None:
    """Neither reading nor writing nor deleting leaves the store's folder."""
    with pytest.raises(InvalidInputError):
        store.create(key, b"x")
    with pytest.raises(InvalidInputError):
        store.get(key)
    with pytest.raises(InvalidInputError):
        store.delete([key])


def test_a_sound_store_passes_its_self_test_and_leaves_nothing(store: ObjectStore) -> None:
    """The probe cleans up."""
    assert store.check() == []
    assert store.list_objects("probe/") == []


class OverwritingStore(DirectoryObjectStore):
    """An S3-like store that ignores the condition."""

    def create(self, key: str, data: bytes) -> bool:
        """Last writer wins."""
        self.delete([key])
        return super().create(key, data)


class StaleStore(DirectoryObjectStore):
    """A store whose listings lag behind."""

    def list_objects(self, prefix: str, after: str = "") -> list:
        """Nothing is visible yet."""
        return []


def test_a_store_that_overwrites_or_lists_late_fails_its_self_test(tmp_path: Path) -> None:
    """A vault is never opened for writing on such a store."""
    assert any("create-only" in fault for fault in probe_store(OverwritingStore(tmp_path), "n"))
    assert any("listing" in fault for fault in probe_store(StaleStore(tmp_path), "m"))


def test_a_missing_bucket_or_endpoint_is_one_clear_error(s3_endpoint: str) -> None:
    """Permanent where somebody must change something, transient where waiting may help."""
    client = s3_client(s3_endpoint)
    with pytest.raises(PermanentError, match="NoSuchBucket"):
        S3ObjectStore(client, "no-such-bucket").create("a", b"x")
    client.close()  # type: ignore[attr-defined]
    nowhere = s3_client("http://127.0.0.1:9")
    with pytest.raises(StoreUnavailableError, match="object a"):
        S3ObjectStore(nowhere, "b", retrying=Retrying(deadline_s=0.5)).get("a")
    nowhere.close()  # type: ignore[attr-defined]


def test_a_full_disk_leaves_nothing_visible(tmp_path: Path) -> None:
    """The write is refused with the reason; the key stays free."""
    root = tmp_path / "vault"
    process = multiprocessing.get_context("spawn").Process(target=_write_with_limit, args=(root,))
    process.start()
    process.join()
    assert process.exitcode == 0
    store = DirectoryObjectStore(root)
    assert store.list_objects("") == []
    assert list((root / ".tmp").iterdir()) == []
    assert store.create("big", b"now it fits")


def _write_with_limit(root: Path) -> None:
    """In a process of its own: file size limited to 64 KiB, as a stand-in for a full disk."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
    with pytest.raises(StoreUnavailableError, match="big"):
        DirectoryObjectStore(root).create("big", bytes(100_000))
