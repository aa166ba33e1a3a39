"""Files that survive a power cut: their bytes, and the folder entry that names them."""

from __future__ import annotations

import ctypes
import os
import re
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file whose bytes are durable; its name is not, before `sync_folder`.

    Raises:
        FileExistsError: there is one already; it was left alone.
    """
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_new(path: Path | str, data: bytes, *, folder: int | None = None) -> None:
    """Write a new file; neither its bytes nor its name are durable yet.

    Args:
        path: of the file.
        data: all that it shall hold.
        folder: open folder that the path starts in, so that its own is not looked up for each of
            very many files; None for the working folder.

    Raises:
        FileExistsError: there is one already; it was left alone.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666, dir_fd=folder)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable: what was created, renamed or removed in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FileSystemFlush:
    """Makes all that was written to a file system durable by one call.

    An fsync of each of very many files would wait for the disk as often.

    Args:
        folder: on that file system; make this before the first write, whose failure it shall tell.

    Raises:
        OSError: the folder cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        """Open the folder; Linux reports failed writes since then."""
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._early: Thread | None = None
        self._failed: OSError | None = None

    def start(self) -> None:
        """Begin to write out what is there, beside the caller; nothing is promised before `flush`.

        The kernel would begin when a tenth of the memory is waiting, and the last flush take all.
        """
        if self._early is None or not self._early.is_alive():
            self._early = Thread(target=self._flush_early, name="early-flush")
            self._early.start()

    def _flush_early(self) -> None:
        """A failure is told once by the system: it is kept for `flush`."""
        try:
            self._flush()
        except OSError as error:
            self._failed = error

    def flush(self) -> bool:
        """Write everything out; False where the system cannot: sync each file then.

        Raises:
            OSError: something written since this was made could not reach the disk.
        """
        self._wait()
        if self._failed is not None:
            raise self._failed
        return self._flush()

    def _wait(self) -> None:
        if self._early is not None:
            self._early.join()

    def _flush(self) -> bool:
        syncfs = _reporting_syncfs()
        if syncfs is None:
            return False
        if syncfs(self._descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return True

    def close(self) -> None:
        """Close the folder; a second time does nothing."""
        self._wait()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@cache
def _reporting_syncfs() -> Any:
    """Linux's `syncfs`, since 5.8, when it began to report errors; None elsewhere."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if os.uname().sysname != "Linux" or release is None:
        return None
    if (int(release[1]), int(release[2])) < (5, 8):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable that was written before."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
