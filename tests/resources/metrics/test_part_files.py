"""Copies of a bucket's objects: verified, fetched once, bounded, healed when damaged."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleet.errors import CorruptObjectError, LakeUnavailableError, NotFoundError
from fleet.metrics.store_facts import MetricsDeclaration
from resources.metrics.opening import open_metric_store
from resources.metrics.part_files import PartFiles
from resources.object_store.s3 import S3ObjectStore
from tests.fakes.crashing_store import CrashingStore
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.metrics.metric_stores import half_past_noon


class Stored(NamedTuple):
    """What a log says of an object."""

    key: str
    sha256: str
    size_bytes: int


def store_part(objects: InMemoryObjectStore, number: int) -> Stored:
    """A small Parquet file."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": [number]}), sink)
    data = sink.getvalue()
    one = Stored(f"raw/{number}.parquet", hashlib.sha256(data).hexdigest(), len(data))
    objects.create(one.key, data)
    return one


def number_in(files: PartFiles, one: Stored) -> int:
    """What the file holds."""
    value: int = files.open(one).read().column("n")[0].as_py()
    return value


def test_an_object_is_fetched_once_and_a_damaged_copy_is_fetched_again(tmp_path: Path) -> None:
    """Also by the next process, which verifies the copy before it trusts it."""
    objects = InMemoryObjectStore()
    one = store_part(objects, 7)
    counting = CrashingStore(objects)
    files = PartFiles(counting, cache=tmp_path / "cache")
    assert [number_in(files, one) for _ in range(3)] == [7, 7, 7]
    assert counting.counts["get"] == 1
    assert number_in(PartFiles(counting, cache=tmp_path / "cache"), one) == 7
    assert counting.counts["get"] == 1
    (copy,) = (tmp_path / "cache").glob("*.parquet")
    copy.write_bytes(b"x" * one.size_bytes)
    assert number_in(files, one) == 7
    assert counting.counts["get"] == 2


def test_copies_are_bounded_by_bytes(tmp_path: Path) -> None:
    """Those that were used longest ago go first."""
    objects = InMemoryObjectStore()
    parts = [store_part(objects, number) for number in range(6)]
    files = PartFiles(objects, cache=tmp_path, cache_bytes=3 * parts[0].size_bytes)
    assert [number_in(files, one) for one in parts] == list(range(6))
    assert len(list(tmp_path.glob("*.parquet"))) <= 3
    assert [number_in(files, one) for one in parts] == list(range(6))


def test_bytes_that_differ_are_never_opened(tmp_path: Path) -> None:
    """Neither from the store nor as a copy; a missing object is said to be missing."""
    objects = InMemoryObjectStore()
    one = store_part(objects, 1)
    objects.objects[one.key] = objects.objects[one.key][:-1]
    for files in (PartFiles(objects), PartFiles(objects, cache=tmp_path / "cache")):
        with pytest.raises(CorruptObjectError, match=one.key):
            files.open(one)
    objects.delete([one.key])
    for files in (PartFiles(objects), PartFiles(objects, root=tmp_path)):
        with pytest.raises(NotFoundError, match=one.key):
            files.open(one)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The hint says which setting to change."""
    (tmp_path / "cache").write_text("in the way")
    objects = InMemoryObjectStore()
    with pytest.raises(LakeUnavailableError) as caught:
        PartFiles(objects, cache=tmp_path / "cache").open(store_part(objects, 1))
    assert "metrics.cache_path" in caught.value.hint


def test_a_bucket_is_opened_without_being_asked_anything(tmp_path: Path) -> None:
    """The settings of a bucket are taken; the folder of the same settings is not touched."""
    declaration = MetricsDeclaration(
        str(tmp_path / "unused"),
        bucket="b",
        prefix="p/",
        endpoint_url="http://127.0.0.1:9",
        aws_region="us-east-1",
        cache_path=str(tmp_path / "cache"),
    )
    store = open_metric_store(declaration, half_past_noon().now)
    assert isinstance(store.objects, S3ObjectStore)
    assert not (tmp_path / "unused").exists()
