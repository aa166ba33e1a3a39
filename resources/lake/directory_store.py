"""A byte store in a local directory.

Committed: when `link(tmp, key)` has returned and the folder has been fsynced. A reader sees an
object as a whole or not at all, because it gets its name only after its last byte is durable.
Everything the operating system refuses becomes `LakeUnavailableError`, with the original chained.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from fleet.errors import CorruptObjectError, LakeUnavailableError
from resources.lake.byte_store import Staged, StoredObject, VanishedError
from resources.lake.files import Files

LEFTOVER_GRACE_S = 3600.0
"""Age at which a tmp file is taken for the leftover of a crash. A living writer that writes
nothing to its file for an hour would lose it, and its commit would fail cleanly."""

VERIFIED_MAX = 100_000
"""Objects that a process remembers as verified; beyond it, it begins anew (300 bytes each)."""

LISTINGS_MAX = 1000
"""Passes over a folder from which objects keep vanishing, before a listing gives up."""


class StagedFile:
    """A tmp file that is hashed as it is written; file-like enough for pyarrow."""

    def __init__(self, files: Files, path: str) -> None:
        """Create the file; OSError when that fails."""
        self.path = path
        self.closed = False
        self.mode = "wb"
        self._files = files
        self._descriptor = files.create(path)
        self._hash = hashlib.sha256()
        self._size_bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        """Append all of `data`; LakeUnavailableError when the disk is full.

        Raises:
            ValueError: it is shut: the descriptor may be another object's by now.
        """
        if self.closed:
            raise ValueError(f"{self.path} is shut")
        view = memoryview(data).cast("B")
        done = 0
        with _translated("a new object of the lake"):
            while done < len(view):
                done += self._files.write(self._descriptor, view[done:])
        self._hash.update(view)
        self._size_bytes += len(view)
        return len(view)

    def tell(self) -> int:
        """Position, which is always the end."""
        return self._size_bytes

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Leave closing to the store: pyarrow closes what it wrote to, before it is committed."""

    def sha256(self) -> str:
        """Checksum of what was written so far."""
        return self._hash.hexdigest()

    def size_bytes(self) -> int:
        """How much was written so far."""
        return self._size_bytes

    def sync(self) -> None:
        """Make it durable and read-only."""
        self._files.sync(self._descriptor)

    def modified_at(self) -> float:
        """Time of the last write, by the clock of the file system."""
        return os.fstat(self._descriptor).st_mtime

    def shut(self) -> None:
        """Really close it."""
        if not self.closed:
            self.closed = True
            self._files.close(self._descriptor)


class DirectoryStore:
    """Objects as files below `<root>/objects`; see `docs/formats/lake.md`.

    Several processes may use one directory at once; there is no lock.
    """

    def __init__(self, root: str | Path, files: Files | None = None) -> None:
        """Use `root`, which is created when it is missing.

        Raises:
            LakeUnavailableError: it cannot be created or written.
        """
        self._root = Path(root).absolute()
        self._files = files or Files()
        self._objects, self._tmp = self._root / "objects", self._root / "tmp"
        self._verified: dict[str, tuple[int, ...]] = {}
        self._durable: set[Path] = set()
        with _translated(f"the lake's folder {self._root}"):
            for folder in (self._objects, self._tmp):
                folder.mkdir(parents=True, exist_ok=True)

    def stage(self) -> AbstractContextManager[Staged]:
        """Room for one object, in `tmp/`; leftovers of crashes are removed on the way."""
        return self._stage()

    @contextmanager
    def _stage(self) -> Iterator[Staged]:
        """Translates its own calls only: what the caller reads meanwhile is not ours to name."""
        with _translated("a new object of the lake"):
            staged = StagedFile(self._files, str(self._tmp / f"{uuid.uuid4().hex}.tmp"))
        try:
            with _translated("leftovers in tmp"):
                self._sweep(staged.modified_at())
            yield staged
        finally:
            with _translated("a new object of the lake"):
                self._discard(staged)

    def _discard(self, staged: StagedFile) -> None:
        """Remove the tmp name; a committed object keeps its own."""
        try:
            with suppress(FileNotFoundError):
                self._files.unlink(staged.path)
        finally:
            staged.shut()

    def commit(self, staged: Staged, key: str) -> bool:
        """Fsync the tmp file, link it to its key, fsync the folders above: then it is committed.

        Also folders that were there already: another process may have made one of them and
        crashed, or been slower, before it was durable.
        """
        assert isinstance(staged, StagedFile)
        target = self._objects / key
        with _translated(f"object {key}"):
            staged.sync()
            created = self._link(staged.path, target)
            self._make_durable(target.parent)
        return created

    def _make_durable(self, day: Path) -> None:
        """Fsync a day folder, the partition's folder that names it, and once all those above.

        Only day folders are ever removed, so the ones above stay durable once they are.
        """
        partition = day.parent
        self._files.sync_folder(str(day))
        self._files.sync_folder(str(partition))
        if partition not in self._durable:
            for folder in (*partition.parents[:2], self._root):
                self._files.sync_folder(str(folder))
            self._durable.add(partition)

    def _link(self, source: str, target: Path) -> bool:
        """Link, making folders as needed; another process may remove an empty one meanwhile."""
        while True:
            self._make_folders(target.parent)
            try:
                self._files.link(source, str(target))
            except FileExistsError:
                return False
            except FileNotFoundError:
                if not Path(source).exists():
                    raise
                continue
            return True

    def _make_folders(self, folder: Path) -> None:
        """Create the missing folders above an object."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            with suppress(FileExistsError, FileNotFoundError):
                self._files.make_folder(str(path))

    def names(self, prefix: str) -> list[str]:
        """Names of files directly under a folder, sorted.

        The folder is read until nothing was removed between two passes: one pass may miss an
        object that is created behind it and those that this object replaces ahead of it.
        """
        folder = str(self._objects / prefix)
        with _translated(f"folder {prefix}"):
            for _ in range(LISTINGS_MAX):
                first = self._files.names(folder)
                second = self._files.names(folder)
                if second.issuperset(first):
                    return sorted(second)
        raise LakeUnavailableError(f"folder {prefix} changes faster than it can be listed")

    def objects(self, prefix: str) -> list[StoredObject]:
        """Files directly under a folder with their sizes, by key; see `names`."""
        folder = str(self._objects / prefix)
        with _translated(f"folder {prefix}"):
            for _ in range(LISTINGS_MAX):
                with suppress(FileNotFoundError):
                    return [
                        StoredObject(f"{prefix}/{name}", _stat(f"{folder}/{name}").st_size)
                        for name in self.names(prefix)
                    ]
        raise LakeUnavailableError(f"folder {prefix} changes faster than it can be listed")

    def folders(self, prefix: str) -> list[str]:
        """Names of folders directly under a folder."""
        with (
            _translated(f"folder {prefix or '/'}"),
            suppress(FileNotFoundError),
            os.scandir(self._objects / prefix) as entries,
        ):
            return sorted(entry.name for entry in entries if entry.is_dir())
        return []

    def fetch(self, key: str, sha256: str) -> str:
        """Path of the object's file; hashed when this process has not yet verified it as it is."""
        path = str(self._objects / key)
        with _translated(f"object {key}"):
            try:
                stamp = _stamp(path)
                if self._verified.get(path) == stamp:
                    return path
                found = _hash_file(path)
            except FileNotFoundError as error:
                raise VanishedError(
                    f"the lake has no object {key}", hint="It was compacted or removed; list again."
                ) from error
            if found == sha256:
                if len(self._verified) >= VERIFIED_MAX:
                    self._verified.clear()
                self._verified[path] = stamp
                return path
            moved = self._quarantine(key, sha256)
        if moved is None:
            return self.fetch(key, sha256)
        raise CorruptObjectError(
            f"object {key} is damaged: its sha256 is {found}; it was moved to {moved}",
            hint="Older objects stay readable; the next materialization replaces this one.",
        )

    def _quarantine(self, key: str, sha256: str) -> Path | None:
        """Move a damaged object aside; None when it is gone or was healed in the meantime."""
        source = self._objects / key
        self._verified.pop(str(source), None)
        try:
            moved = self._root / "quarantine" / f"{key}.{source.stat().st_mtime_ns}"
            moved.parent.mkdir(parents=True, exist_ok=True)
            self._files.rename(str(source), str(moved))
        except FileNotFoundError:
            return None
        found = _hash_file(str(moved))
        if found == sha256:
            with suppress(FileExistsError):
                self._files.link(str(moved), str(source))
            self._files.sync_folder(str(source.parent))
            self._files.unlink(str(moved))
            return None
        self._files.sync_folder(str(source.parent))
        note = {
            "key": key,
            "expected_sha256": sha256,
            "found_sha256": found,
            "size_bytes": moved.stat().st_size,
        }
        moved.with_name(f"{moved.name}.json").write_text(json.dumps(note, indent=1) + "\n")
        return moved

    def remove(self, keys: Iterable[str]) -> int:
        """Unlink files, and day folders that became empty."""
        removed, folders = 0, set()
        for key in keys:
            path = self._objects / key
            with _translated(f"object {key}"), suppress(FileNotFoundError):
                self._files.unlink(str(path))
                removed += 1
                folders.add(path.parent)
            self._verified.pop(str(path), None)
        for folder in sorted(folders):
            with _translated(f"folder {folder}"), suppress(FileNotFoundError):
                self._files.sync_folder(str(folder))
                if not any(folder.iterdir()):
                    self._remove_folder(folder)
        return removed

    def _remove_folder(self, folder: Path) -> None:
        """Remove a folder unless a writer has just put something into it."""
        try:
            self._files.remove_folder(str(folder))
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
                raise

    def _sweep(self, now: float) -> None:
        """Remove tmp files older than the grace; `now` is the file system's own clock."""
        with os.scandir(self._tmp) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if now - entry.stat(follow_symlinks=False).st_mtime > LEFTOVER_GRACE_S:
                        self._files.unlink(entry.path)


def _stat(path: str) -> os.stat_result:
    """Status of a file; a day folder has 1,440 of them, and `Path` costs thrice as much."""
    return os.stat(path)  # noqa: PTH116


def _stamp(path: str) -> tuple[int, ...]:
    """What changes when a file's bytes do (save for a clock that was set back)."""
    status = _stat(path)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _hash_file(path: str) -> str:
    """SHA-256 of a file, hexadecimal."""
    with Path(path).open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _translated(subject: str) -> Iterator[None]:
    """Turn what the operating system refuses into the lake's error."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        raise LakeUnavailableError(
            f"{subject}: {error.strerror or error}",
            hint="Free disk space under the lake's path, then retry."
            if full
            else "Check that the lake's path exists, is mounted and may be written.",
        ) from error
