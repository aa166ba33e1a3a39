"""Small files that are replaced whole, by one writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import TrafficUnavailableError


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file; committed by the rename of a finished, synced temporary file.

    A crash before the rename leaves the old file, and a temporary one that the next call reuses.

    Raises:
        TrafficUnavailableError: it cannot be written; the old file stays.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise TrafficUnavailableError(
            f"{path}: cannot be written ({error}); it stays as it was",
            hint=f"Check the rights on {path.parent} and the room on its disk.",
        ) from error


def read_file(path: Path) -> bytes | None:
    """The bytes of a file; None when there is none.

    Raises:
        TrafficUnavailableError: it is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrafficUnavailableError(
            f"{path}: cannot be read ({error})", hint=f"Check the rights on {path}."
        ) from error


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the only writer of a folder among all processes of this machine; the kernel ends it.

    Raises:
        TrafficUnavailableError: the folder cannot be made or locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise TrafficUnavailableError(
            f"{folder}: cannot be made or locked ({error})", hint="Check the path and its rights."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
