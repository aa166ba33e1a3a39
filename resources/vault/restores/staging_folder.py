"""A folder beside the target of a restore, and the one switch that makes its content the target.

Everything is written and proven inside a folder `.{target}.restore-{id}`, on the same file system.
Where nothing stands in the way the switch is one rename. Else the old target is first renamed to
`.{target}.before-restore-{id}`, with the files that belong to it (a WAL must never meet another
database), then the new one takes the name, then the old one is deleted:

| killed | what is left | the next restore to this target |
|---|---|---|
| before the first rename | old target; a staging folder nobody holds | removes the staging folder |
| between the renames | no target; old one under its `before-restore` name | puts the old one back |
| before the deletion ends | new target, complete; rest of the old one | leaves it, and names it |
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from fleet.errors import InvalidInputError, StoreUnavailableError, VersionConflictError
from resources.synced_files import sync_folder

SIDECARS = ("-wal", "-shm", "-journal", ".wal")
"""Files beside a database that belong to the old one: SQLite's, and DuckDB's."""


class StagingFolder:
    """Where a restore is made ready; use as a context, so that it goes away.

    Args:
        target: file or folder to come; its parent must exist.
        restore_id: distinguishes this restore from others.
        sidecars: suffixes of files beside the target that go with it.
    """

    def __init__(self, target: Path, restore_id: str, sidecars: Sequence[str] = ()) -> None:
        """Nothing is touched yet."""
        name = target.name
        if name in {"", ".", ".."}:
            raise InvalidInputError("into", str(target), "the path of a file or folder to create")
        self.target = target
        self._id = restore_id
        self._sidecars = sidecars
        self._parent = target.parent
        self._stem = f".{name}.restore-"
        self._aside = f".{name}.before-restore-"
        self.folder = self._parent / f"{self._stem}{restore_id}"
        self.content = self.folder / "content"
        """What is to become the target."""
        self._lock = -1

    def __enter__(self) -> Self:
        """Clear what dead restores left, then make the folder.

        Raises:
            InvalidInputError: the target's parent is no folder.
            StoreUnavailableError: the file system refuses.
        """
        if not self._parent.is_dir():
            raise InvalidInputError("into", str(self.target), "a path in a folder that exists")
        try:
            self._put_back()
            self._clear()
            self.folder.mkdir(mode=0o700)
            self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise refused(self.folder, error) from error
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        _make_removable(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def demand_free(self, *, overwrite: bool) -> None:
        """Refuse a target that exists, unless it is to be overwritten.

        Raises:
            VersionConflictError: it exists.
        """
        if not overwrite and os.path.lexists(self.target):
            raise VersionConflictError(
                f"{self.target} exists",
                hint="Restore beside it and compare, or overwrite it on purpose (--force).",
            )

    def switch(self, *, overwrite: bool) -> None:
        """Make the content the target. Committed by the rename of the content.

        Raises:
            VersionConflictError: the target has appeared meanwhile, and is not to be overwritten.
            StoreUnavailableError: the file system refuses; the old target is in its place.
        """
        self.demand_free(overwrite=overwrite)
        moved: list[tuple[Path, Path]] = []
        try:
            for path in self._in_the_way():
                aside = (
                    self._parent / f"{self._aside}{self._id}{path.name[len(self.target.name) :]}"
                )
                path.rename(aside)
                moved.append((path, aside))
            self.content.rename(self.target)
        except OSError as error:
            for path, aside in reversed(moved):
                aside.rename(path)
            raise refused(self.target, error) from error
        sync_folder(self._parent)
        for _, aside in moved:
            _remove(aside)

    def leftovers(self) -> tuple[str, ...]:
        """Old targets that a restore killed in its last step has left; ours not included."""
        found = (one for one in self._siblings(self._aside) if self._id not in one.name)
        return tuple(sorted(str(one) for one in found))

    def _in_the_way(self) -> Iterator[Path]:
        """The old target first: while it has no name, a killed switch can be told from a done one.

        A file is replaced by the rename itself when nothing belongs to it.
        """
        sidecars = [Path(f"{self.target}{one}") for one in self._sidecars]
        beside = [one for one in sidecars if os.path.lexists(one)]
        if not os.path.lexists(self.target):
            yield from beside
            return
        is_plain = not self.target.is_dir() and not self.content.is_dir()
        if is_plain and not beside:
            return
        yield self.target
        yield from beside

    def _put_back(self) -> None:
        """Undo the switch of a restore that was killed between its renames."""
        if os.path.lexists(self.target):
            return
        asides = self._siblings(self._aside)
        whole = [one for one in asides if len(one.name) == len(self._aside) + _ID_CHARS]
        if len(whole) != 1 or not all(one.name.startswith(whole[0].name) for one in asides):
            return  # nothing, or several: which of them is wanted is not ours to guess
        start = len(whole[0].name)
        for one in sorted(asides, reverse=True):  # sidecars first, the target last
            one.rename(self._parent / f"{self.target.name}{one.name[start:]}")
        sync_folder(self._parent)

    def _clear(self) -> None:
        for one in self._siblings(self._stem):
            with _lock_of_dead(one) as is_dead:
                if is_dead:
                    _make_removable(one)
                    shutil.rmtree(one)

    def _siblings(self, prefix: str) -> list[Path]:
        return [one for one in self._parent.iterdir() if one.name.startswith(prefix)]


_ID_CHARS = 26
"""Length of a ULID."""


def refused(path: Path, error: OSError) -> StoreUnavailableError:
    """What the file system said, as an error that can be acted on."""
    return StoreUnavailableError(
        f"{path}: {error.strerror or error}",
        hint="Check the disk's free space and the folder's owner; the old target is untouched.",
    )


@contextlib.contextmanager
def _lock_of_dead(folder: Path) -> Iterator[bool]:
    """Whether no living restore holds a staging folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _make_removable(folder: Path) -> None:
    """Give folders back the mode that lets their owner empty them."""
    folders = [folder] if folder.is_dir() and not folder.is_symlink() else []
    while folders:
        one = folders.pop()
        one.chmod(0o700)
        with os.scandir(one) as entries:
            folders += [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        _make_removable(path)
        shutil.rmtree(path)
    else:
        path.unlink()
