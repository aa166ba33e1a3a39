"""Restoring artefacts: proven, then switched once; killed anywhere, nothing is half."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.artefact_items import ItemAttributes, encode_attributes
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    StoreUnavailableError,
    VersionConflictError,
)
from resources.vault.packs.manifest import manifest_schema
from resources.vault.restores import restore_files
from resources.vault.restores.restore_files import restore_artefact
from tests.fakes.artefact_vault import ArtefactVault, tree
from tests.fakes.crashing_store import Crashed


@pytest.fixture
def source(vault: ArtefactVault) -> Path:
    """A folder, backed up."""
    folder = vault.root / "source"
    (folder / "models" / "v1").mkdir(parents=True)
    (folder / "models" / "v1" / "weights").write_bytes(random.Random(1).randbytes(400_000))
    (folder / "models" / "v2").write_bytes(b"second")
    (folder / "models-old").write_bytes(b"old")
    (folder / "link").symlink_to("models/v2")
    vault.declare("source", folder)
    vault.back_up()
    return folder


def hidden(folder: Path) -> list[str]:
    """What a restore left behind."""
    return sorted(one.name for one in folder.iterdir() if one.name.startswith("."))


def test_some_paths_of_an_artefact_can_be_restored_alone(
    vault: ArtefactVault, source: Path
) -> None:
    """Files and folders, with the folders above them; a name that only begins alike stays out."""
    everything = tree(source)
    restored = tree(vault.restore("source", paths=["models", "link"]))
    del everything["models-old"]
    assert {**restored, ".": everything["."]} == everything
    one = vault.restore("source", paths=["models/v1/weights"])
    assert sorted(tree(one)) == [".", "models", "models/v1", "models/v1/weights"]
    with pytest.raises(NotFoundError, match="holds no 'models/v3'"):
        vault.restore("source", paths=["models/v1", "models/v3"])


def test_a_moment_means_the_newest_snapshot_before_it(vault: ArtefactVault, source: Path) -> None:
    """And one before all snapshots is refused."""
    first = vault.clock.now()
    (source / "models-old").write_bytes(b"newer")
    vault.back_up()
    assert (vault.restore("source", at=first) / "models-old").read_bytes() == b"old"
    assert (vault.restore("source") / "models-old").read_bytes() == b"newer"
    vault.clock.jump(-86_400)
    with pytest.raises(NotFoundError):
        vault.restore("source", at=vault.clock.now())


def test_what_exists_is_not_overwritten_unless_asked(vault: ArtefactVault, source: Path) -> None:
    """Not a file, not a folder, not a link that leads nowhere."""
    into = vault.root / "into"
    handle = vault.vault()
    for make in (into.mkdir, into.touch, lambda: into.symlink_to("nowhere")):
        make()
        before = into.lstat()
        with pytest.raises(VersionConflictError, match="exists"):
            restore_artefact(handle, "source", into)
        assert into.lstat() == before
        assert hidden(vault.root) == []
        restore_artefact(handle, "source", into, overwrite=True)
        assert tree(into) == tree(source)
        assert hidden(vault.root) == []
        clear(vault.root, "into")


def test_a_target_that_cannot_be_is_refused(vault: ArtefactVault, source: Path) -> None:
    """A missing parent, no name, an unknown artefact or snapshot."""
    handle = vault.vault()
    for into in (vault.root / "no" / "where", Path("/"), vault.root / ".."):
        with pytest.raises(InvalidInputError, match="into"):
            restore_artefact(handle, "source", into)
    with pytest.raises(NotFoundError, match="holds no artefact sourc"):
        restore_artefact(handle, "sourc", vault.root / "into")
    with pytest.raises(NotFoundError):
        restore_artefact(handle, "source", vault.root / "into", snapshot_id="x")


class Killer:
    """Ends a restore at its k-th change of a file system, before or after it."""

    NAMES = ("rename", "mkdir", "unlink", "chmod", "symlink_to", "rmdir")

    def __init__(self, patch: pytest.MonkeyPatch, number: int, when: str) -> None:
        """0 as `number` never ends it."""
        self.calls = 0
        for owner, names in ((Path, self.NAMES), (os, ("pwrite", "fsync", "ftruncate", "rmdir"))):
            for name in names:
                if name != "rmdir" or owner is os:
                    patch.setattr(owner, name, self._wrapped(getattr(owner, name), number, when))

    def _wrapped(self, inner: Any, number: int, when: str) -> Any:
        def run(*arguments: Any, **more: Any) -> Any:
            self.calls += 1
            if number and self.calls > number:
                raise Crashed
            if self.calls == number and when == "before":
                raise Crashed
            result = inner(*arguments, **more)
            if self.calls == number:
                raise Crashed
            return result

        return run


def kill_everywhere(vault: ArtefactVault, run: Any) -> Iterator[None]:
    """Run with a kill at each step in turn; yields after each, with the steps undone by nobody."""
    with pytest.MonkeyPatch.context() as patch:
        counter = Killer(patch, 0, "")
        run()
    yield
    for number in range(1, counter.calls + 1):
        for when in ("before", "after"):
            with pytest.MonkeyPatch.context() as patch:
                Killer(patch, number, when)
                with pytest.raises(Crashed):
                    run()
            yield


def test_a_folder_restore_killed_at_any_step_loses_neither_old_nor_new(
    vault: ArtefactVault, source: Path
) -> None:
    """The old or the new folder stands there whole, or comes back with the next restore."""
    expected, into = tree(source), vault.root / "into"
    old = {}
    attempts = 0

    def run() -> None:
        restore_artefact(vault.vault(), "source", into, overwrite=True)

    def reset() -> None:
        nonlocal old
        clear(vault.root, "into")
        into.mkdir()
        (into / "precious").write_bytes(b"old")
        old = tree(into)

    reset()
    for _ in kill_everywhere(vault, run):
        attempts += 1
        if into.exists():
            assert tree(into) in (old, expected)
        else:
            (aside,) = [n for n in hidden(vault.root) if n.startswith(".into.before-restore-")]
            assert tree(vault.root / aside) == old
            with pytest.raises(VersionConflictError):  # what it finds is the old one, put back
                restore_artefact(vault.vault(), "source", into)
            assert tree(into) == old
        run()
        assert tree(into) == expected
        assert [n for n in hidden(vault.root) if ".into.restore-" in n] == []
        reset()
    assert attempts > 30


def test_a_database_restore_killed_at_any_step_never_meets_the_old_wal(
    vault: ArtefactVault,
) -> None:
    """Old database with old WAL, or new one without; in between only the `before-restore` names."""
    path, into = vault.root / "facts.db", vault.root / "live.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute("CREATE TABLE t AS SELECT 'new' AS a")
    vault.declare("facts", path)
    vault.back_up()
    old = {"": b"old database", "-wal": b"old wal", "-shm": b"old shm"}

    def run() -> None:
        restore_artefact(vault.vault(), "facts", into, overwrite=True)

    def reset() -> None:
        clear(vault.root, "live.db")
        for suffix, body in old.items():
            Path(f"{into}{suffix}").write_bytes(body)

    reset()
    for _ in kill_everywhere(vault, run):
        there = {s: Path(f"{into}{s}").read_bytes() for s in old if Path(f"{into}{s}").exists()}
        if there.get("") == path.read_bytes():
            assert list(there) == [""]
        elif there:
            assert there == old or "" not in there
        run()
        assert into.read_bytes() == path.read_bytes()
        assert not Path(f"{into}-wal").exists()
        reset()


def clear(folder: Path, name: str) -> None:
    """Remove a target and everything about it."""
    from resources.vault.restores.staging_folder import _remove

    for one in list(folder.iterdir()):
        if one.name.startswith((name, f".{name}.")):
            _remove(one)


def test_an_old_target_that_a_killed_restore_left_is_named_not_deleted(
    vault: ArtefactVault, source: Path
) -> None:
    """It may be the only copy of what was written after the crash."""
    into = vault.root / "into"
    left = vault.root / f".into.before-restore-{'0' * 26}"
    left.mkdir()
    into.mkdir()
    result = restore_artefact(vault.vault(), "source", into, overwrite=True)
    assert result.leftovers == (str(left),)
    assert left.exists()


def test_a_restore_that_runs_is_not_cleared_away_by_another(
    vault: ArtefactVault, source: Path
) -> None:
    """A staging folder is somebody's as long as it is locked."""
    alive, dead = (vault.root / f".into.restore-{one * 26}" for one in "AD")
    alive.mkdir()
    dead.mkdir()
    handle = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        restore_artefact(vault.vault(), "source", vault.root / "into")
        assert (alive.exists(), dead.exists()) == (True, False)
    finally:
        os.close(handle)


@contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    """No file may grow beyond this size: the write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_target_and_no_rubbish(
    vault: ArtefactVault, source: Path
) -> None:
    """The error is one that can be retried, and says where."""
    into = vault.root / "into"
    into.mkdir()
    (into / "precious").write_bytes(b"old")
    before = tree(into)
    with disk_of(100_000), pytest.raises(StoreUnavailableError, match="too large"):
        restore_artefact(vault.vault(), "source", into, overwrite=True)
    assert tree(into) == before
    assert hidden(vault.root) == []


def test_what_the_disk_gives_back_is_compared(
    vault: ArtefactVault, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that lies is found before the switch."""
    pwrite = os.pwrite

    def lying(file: int, data: Any, at: int) -> int:
        return pwrite(file, bytes(data[:-1]) + bytes((data[-1] ^ 1,)), at)

    monkeypatch.setattr(os, "pwrite", lying)
    with pytest.raises(CorruptObjectError, match="does not read back"):
        restore_artefact(vault.vault(), "source", vault.root / "into")
    assert not (vault.root / "into").exists()
    assert hidden(vault.root) == []


@pytest.mark.parametrize(
    ("ids", "types"),
    [
        (["source/../evil"], ["file"]),
        (["source//etc/evil"], ["file"]),
        (["source/a", "source/a/evil"], ["link", "file"]),
        (["source/a", "source/a/evil"], ["file", "file"]),
        (["source/a", "source/b"], ["file", "file"]),
    ],
)
def test_a_forged_manifest_writes_nothing_outside(
    vault: ArtefactVault, source: Path, ids: list[str], types: list[str]
) -> None:
    """Even one that is authentic: paths that climb, children of links, two files in one place."""
    handle = vault.vault()
    with handle_writer(vault) as writer:
        future = writer.add_blobs([("source/x", b"/tmp")])
        writer.finish()
        (blob_id,) = future.result()
        place = writer.place(blob_id)
        packs = writer.packs
    rows = [
        {
            "kind": "file",
            "item_id": item_id,
            "version": 0,
            "chunk": 0,
            "blob_id": blob_id,
            **place._asdict(),
            "digest": hashlib.sha256(b"/tmp").digest(),
            "updated_at": None,
            "removed": False,
            "attributes": encode_attributes(ItemAttributes(kind)),
        }
        for item_id, kind in zip(ids, types, strict=True)
    ]
    import pyarrow as pa

    from resources.vault.packs.manifest import Manifest

    forged = Manifest(pa.Table.from_pylist(rows, schema=manifest_schema()), packs)
    found = restore_files.find_manifest(handle, None, None, states=False)[0]
    before = sorted(vault.root.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restore_files, "find_manifest", lambda *_, **__: (found, forged))
        with pytest.raises(CorruptObjectError):
            restore_artefact(handle, "source", vault.root / "into")
    assert sorted(vault.root.iterdir()) == before


def handle_writer(vault: ArtefactVault) -> Any:
    """A writer of file blobs, as an attempt has it."""
    from resources.vault.snapshots.attempt import Attempt

    return Attempt(vault.vault(), 1, frozenset()).writer("file")
