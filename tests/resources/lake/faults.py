"""File calls that fail on purpose: a process that dies, a disk that is full, a power cut."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resources.lake.files import Files

CALLS = (
    "create",
    "write",
    "sync",
    "close",
    "make_folder",
    "link",
    "sync_folder",
    "unlink",
    "rename",
    "remove_folder",
)


class Crash(BaseException):
    """The process is dead; nothing it would still do reaches the disk."""


class TracedFiles(Files):
    """Counts the calls and lets `fault` act before or after each."""

    def __init__(self, fault: Callable[[int, str, bool], None], write_max: int = 1 << 30) -> None:
        """`fault(call number from 1, name, whether the call was done)` may raise or end us."""
        self.calls: list[str] = []
        self._fault = fault
        self._write_max = write_max

    def __getattribute__(self, name: str) -> Any:
        """Wrap the ten calls."""
        found = super().__getattribute__(name)
        if name not in CALLS:
            return found

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            number = len(self.calls)
            self._fault(number, name, False)
            if name == "write":
                arguments = (arguments[0], arguments[1][: self._write_max])
            answer = found(*arguments)
            self._fault(number, name, True)
            return answer

        return call


class DeadAt:
    """A fault: from one call on, every call crashes, as when the process had been killed there."""

    def __init__(self, number: int, *, done: bool) -> None:
        """Die before or after the call was done."""
        self.number, self.done = number, done
        self.dead = False

    def __call__(self, number: int, name: str, done: bool) -> None:
        """Crash when the moment has come, and ever after."""
        self.dead = self.dead or (number, done) == (self.number, self.done)
        if self.dead:
            raise Crash


class FailsOnce:
    """A fault: one call is refused by the operating system, the rest work."""

    def __init__(self, number: int, code: int = errno.ENOSPC) -> None:
        """Refuse call `number` with an errno."""
        self.number, self.code = number, code

    def __call__(self, number: int, name: str, done: bool) -> None:
        """Refuse it before it is done."""
        if number == self.number and not done:
            raise OSError(self.code, os.strerror(self.code))


class PowerCutFiles(Files):
    """Remembers what a power cut would undo: entries of folders that were not fsynced yet.

    `cut()` takes away every name that was made, and brings back every name that was removed, since
    the last fsync of its folder: the worst that a file system may do.
    """

    def __init__(self, attic: Path) -> None:
        """Keep copies of removed files in `attic`."""
        self._attic = attic
        self._numbers = itertools.count()
        self._made: set[str] = set()
        self._removed: dict[str, Path] = {}
        self._synced: set[tuple[int, int]] = set()

    def sync(self, descriptor: int) -> None:
        """Remember which files are durable."""
        super().sync(descriptor)
        status = os.fstat(descriptor)
        self._synced.add((status.st_dev, status.st_ino))

    def make_folder(self, path: str) -> None:
        """A new entry."""
        super().make_folder(path)
        self._made.add(path)

    def link(self, source: str, target: str) -> None:
        """A new entry, which must not come before its bytes are durable."""
        status = Path(source).stat()
        assert (status.st_dev, status.st_ino) in self._synced
        super().link(source, target)
        self._made.add(target)

    def unlink(self, path: str) -> None:
        """An entry that may come back."""
        kept = self._attic / str(next(self._numbers))
        os.link(path, kept)
        super().unlink(path)
        self._removed[path] = kept

    def sync_folder(self, path: str) -> None:
        """From here on the entries of this folder are durable."""
        super().sync_folder(path)
        self._made = {made for made in self._made if str(Path(made).parent) != path}
        for removed in [each for each in self._removed if str(Path(each).parent) == path]:
            del self._removed[removed]

    def cut(self) -> None:
        """Undo what was not durable."""
        for made in sorted(self._made):
            if Path(made).is_dir():
                shutil.rmtree(made)
            else:
                Path(made).unlink(missing_ok=True)
        for removed, kept in self._removed.items():
            if Path(removed).parent.is_dir() and not Path(removed).exists():
                os.link(kept, removed)
