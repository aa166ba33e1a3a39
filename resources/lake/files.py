"""The system calls of the directory store, one method each.

They stand here alone so that a test can let the process fail before or after any of them: the
crash table in `docs/formats/lake.md` is a statement about the order of these calls.
"""

# One method is one system call; pathlib's wrappers would hide that.
# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH208

from __future__ import annotations

import os


class Files:
    """The operating system's file calls; they raise OSError."""

    def create(self, path: str) -> int:
        """Open a new file for writing; it must not exist."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write some of the bytes, as `os.write`."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Make an open file durable, and read-only: objects never change."""
        os.fchmod(descriptor, 0o444)
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close an open file."""
        os.close(descriptor)

    def make_folder(self, path: str) -> None:
        """Create one folder; its parent must exist."""
        os.mkdir(path, 0o755)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name; fails when the name is taken."""
        os.link(source, target)

    def sync_folder(self, path: str) -> None:
        """Make the entries of a folder durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def names(self, path: str) -> set[str]:
        """Names in a folder; none when it does not exist.

        While others create and remove, one that is created may be missed and so may one that is
        removed later: the answer need not have been true at any moment.
        """
        try:
            return set(os.listdir(path))
        except FileNotFoundError:
            return set()

    def unlink(self, path: str) -> None:
        """Remove a name."""
        os.unlink(path)

    def rename(self, source: str, target: str) -> None:
        """Move a file; replaces the target."""
        os.rename(source, target)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        os.rmdir(path)
