"""No damaged byte is served: in the store, in a local copy, or under a manifest of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.errors import CorruptObjectError, NotFoundError, StoreUnavailableError
from fleet.vectors.manifest_json import manifest_bytes
from fleet.vectors.records import EmbeddingModel, IndexManifest, IndexPointer, Metric
from resources.object_store.directory import DirectoryObjectStore
from resources.vectors.adopted import look_at_adopted
from resources.vectors.generation_rows import open_rows, save_rows
from tests.resources.vectors.test_faiss_backend import BACKEND, DATA, SPECS
from tests.resources.vectors.world import MODEL, NETWORK, VectorWorld, note_ids

Damage = Callable[[bytes], bytes]


def flip(data: bytes, place: int) -> bytes:
    """One bit of one byte."""
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


DAMAGES: dict[str, Damage] = {
    "truncated": lambda data: data[: len(data) // 2],
    "cut by one": lambda data: data[:-1],
    "empty": lambda _: b"",
    "longer": lambda data: data + b"\0",
    "flipped first": lambda data: flip(data, 0),
    "flipped middle": lambda data: flip(data, len(data) // 2),
    "flipped last": lambda data: flip(data, len(data) - 1),
    "zeroed tail": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "zeroed": lambda data: bytes(len(data)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory store with two generations, which the tests restore after they damage it."""
    path = tmp_path_factory.mktemp("vectors")
    world = VectorWorld(path, DirectoryObjectStore(path / "store"))
    world.write(range(300))
    world.refresh()
    world.write(range(300, 330))
    world.refresh()
    return path


def world_at(folder: Path, copies: Path) -> VectorWorld:
    """The store of the folder, with local copies elsewhere."""
    return VectorWorld(copies, DirectoryObjectStore(folder / "store"))


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("file", ["index.faiss", "rows.arrow", "delta-000000000002.arrow"])
def test_a_damaged_part_of_the_store_is_named_and_never_served(
    folder: Path, tmp_path: Path, name: str, file: str
) -> None:
    """Each part of the current generation; nothing of it stays as a local copy."""
    world = world_at(folder, tmp_path)
    current = world.store.current(NETWORK)
    assert current is not None
    home = folder / "store" / "indexes" / NETWORK / "generations"
    paths = sorted(home.glob(f"*/{file}.*"))
    assert paths
    for path in paths:
        whole = path.read_bytes()
        path.write_bytes(DAMAGES[name](whole))
        try:
            with pytest.raises(CorruptObjectError, match=path.name):
                world.searcher().search("note-1")
            assert len(world.store.scrub(NETWORK, current.generation)) == 1
            assert not list((tmp_path / "copies").rglob(f"*.{file}"))
        finally:
            path.write_bytes(whole)
    assert note_ids(world.searcher().search("note-1", 1)) == ["note-1"]


def test_swapped_and_missing_parts_and_manifests_are_never_served(
    folder: Path, tmp_path: Path
) -> None:
    """A part of another file, a missing one, the manifest of the other generation."""
    world = world_at(folder, tmp_path)
    home = folder / "store" / "indexes" / NETWORK / "generations"
    first, second = (home / one for one in world.store.generations(NETWORK))
    swaps = {
        first / "index.faiss.0000": first / "rows.arrow.0000",
        first / "rows.arrow.0000": first / "index.faiss.0000",
        second / "delta-000000000002.arrow.0000": first / "rows.arrow.0000",
        second / "manifest.json": first / "manifest.json",
    }
    for path, other in swaps.items():
        kept = path.read_bytes()
        path.write_bytes(other.read_bytes())
        with pytest.raises(CorruptObjectError):
            world.searcher().search("note-1")
        path.unlink()
        with pytest.raises((CorruptObjectError, NotFoundError)):
            world.searcher().search("note-1")
        path.write_bytes(kept)
    assert world.store.scrub(NETWORK, second.name) == []


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_local_copy_is_made_anew(folder: Path, tmp_path: Path, name: str) -> None:
    """A new process sees that the bytes differ, fetches them again, and answers."""
    first = world_at(folder, tmp_path)
    assert first.searcher().search("note-1", 1).hits
    for file in (tmp_path / "copies").rglob("*.*"):
        if file.is_file():
            whole = file.read_bytes()
            file.unlink()
            file.write_bytes(DAMAGES[name](whole))
            again = world_at(folder, tmp_path)
            assert note_ids(again.searcher().search("note-7", 1)) == ["note-7"]
            assert file.read_bytes() == whole


def test_a_copy_that_cannot_be_written_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    """A file where the folder should be; nothing half-written stays behind."""
    world = world_at(folder, tmp_path)
    (tmp_path / "copies").write_text("in the way")
    with pytest.raises(StoreUnavailableError, match="local copy"):
        world.searcher().search("note-1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"ntotal": 299, "live": 299},
        {"rows": 301},
        {"live": 270},
        {"model": MODEL._replace(metric=Metric.L2)},
        {"model": EmbeddingModel("clusters", "1", 17)},
    ],
)
def test_an_index_that_is_not_that_of_its_manifest_is_refused(
    folder: Path, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    """Whole files, right checksums, but another count, width or metric: found before a search."""
    world = VectorWorld(tmp_path)
    source = world_at(folder, tmp_path)
    pointer = source.store.published(NETWORK)[0]
    files = source.store.open(pointer)
    lying: IndexManifest = files.manifest._replace(generation="lying", **wrong)
    staged = world.store.stage(lying, files.index_path, files.rows_path)
    digest = hashlib.sha256(manifest_bytes(staged)).hexdigest()
    told = IndexPointer(NETWORK, 1, "lying", digest, 0, pointer.at, "a lie")
    world.store.publish(staged, told)
    with pytest.raises(CorruptObjectError, match="is not that of its manifest"):
        world.searcher().search_vector(np.ones(16))


def test_rows_that_are_no_rows_are_refused(tmp_path: Path) -> None:
    """Text, or another table."""
    import pyarrow as pa

    path = tmp_path / "rows.arrow"
    path.write_bytes(b"no arrow")
    with pytest.raises(CorruptObjectError, match="holds no rows"):
        open_rows(str(path))
    save_rows(pa.table({"a": [1]}), str(path))
    with pytest.raises(CorruptObjectError, match="columns"):
        open_rows(str(path))


def test_a_foreign_index_is_looked_at_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Sound ones are counted, damaged and missing ones a finding; nothing is changed, no crash."""
    path = tmp_path / "theirs.faiss"
    BACKEND.build(SPECS["lists"], DATA, Metric.L2, 7).save(str(path))
    before = path.stat()
    look = look_at_adopted("theirs", path, measure=False)
    assert look.problems == ()
    assert (look.ntotal, look.dimensions, look.size_bytes) == (1000, 16, before.st_size)
    assert look.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    path.write_bytes(path.read_bytes()[:-100])
    damaged = look_at_adopted("theirs", path)
    assert damaged.ntotal is None
    assert "FAISS" in damaged.problems[0]
    assert "No such file" in look_at_adopted("theirs", tmp_path / "none").problems[0]
