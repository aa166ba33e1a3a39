"""What the databases have in common: a consistent copy in a staging folder, made when it is read.

A database file is never opened here by plain `open`: closing any handle of it would drop the
advisory locks that this process holds on it through SQLite or DuckDB (POSIX; SQLite, "How to
corrupt", 2.2). Looking at its size and times is harmless, and tells whether a copy is needed.
"""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from shutil import rmtree
from typing import Any

from fleet.artefact_items import ItemAttributes
from fleet.errors import NotFoundError, StoreUnavailableError
from resources.vault.artefacts.port import OpenedFile, SourceFile
from resources.vault.artefacts.tree import LiveFile, attributes_of, stamp_of

COPY_TIMEOUT_S = 3600
"""No copy of one database takes longer, or something hangs."""


class StagedSource(ABC):
    """A database that is one file; a kind says how to copy it and which files belong to it.

    Args:
        path: of the database.
        seen_ns: moment before it was looked at.
        staging: folder for the copy, which needs as much room; None for the system's.
    """

    kind = ""
    sidecars: tuple[str, ...] = ()
    """Suffixes of the files beside it that hold what is not in it yet."""

    def __init__(self, path: str, seen_ns: int, staging: Path | None) -> None:
        """Nothing is copied yet."""
        self.path = path
        self._seen_ns = seen_ns
        self._staging_root = staging
        self._staging: Path | None = None
        self._about: Mapping[str, Any] = {}

    def files(self) -> Iterator[SourceFile]:
        """See `ArtefactSource.files`; the copy is made when the file is opened."""
        yield self.source_file(os.fsencode(Path(self.path).name), self.attributes())

    def source_file(self, name: bytes, attributes: ItemAttributes) -> SourceFile:
        """The database as one file of this name."""
        return SourceFile(name, attributes, attributes.stamp[0], self._open)

    def attributes(self) -> ItemAttributes:
        """Attributes of the live file; the stamp covers its sidecars."""
        found = _stat(self.path)
        result = attributes_of(found, self._seen_ns)
        stamp, changed_ns = result.stamp, result.changed_ns
        for suffix in self.sidecars:
            try:
                beside = Path(self.path + suffix).stat()
            except FileNotFoundError:
                continue
            if beside.st_size:  # readers leave empty ones behind
                # Without ctime: SQLite sets the owner of a WAL whenever it opens one.
                stamp += stamp_of(beside)[:3]
                changed_ns = max(changed_ns, beside.st_mtime_ns)
        return result._replace(stamp=stamp, changed_ns=changed_ns, hard_link=())

    def about(self) -> Mapping[str, Any]:
        """See `ArtefactSource.about`."""
        return self._about

    def close(self) -> None:
        """Remove the copy."""
        if self._staging is not None:
            rmtree(self._staging)
            self._staging = None

    @abstractmethod
    def copy(self, target: Path) -> Mapping[str, Any]:
        """Make a consistent copy at `target`; what its consistency is."""

    def _open(self) -> OpenedFile:
        self.close()
        self._staging = Path(tempfile.mkdtemp(prefix="stateroom-copy-", dir=self._staging_root))
        copy = self._staging / "copy"
        self._about = self.copy(copy)
        return _Copy(os.fsencode(copy))


class _Copy(LiveFile):
    """The staging copy stands for the live file: its attributes are those of that one."""

    def attributes(self, listed: ItemAttributes) -> ItemAttributes:
        """As listed, before the copy was made."""
        return listed


def first_bytes(path: str, count: int) -> bytes:
    """The first bytes of a file, read by another process: see the module."""
    command = ["head", "-c", str(count), "--", path]
    done = subprocess.run(command, capture_output=True, check=False, timeout=COPY_TIMEOUT_S)
    if done.returncode:
        raise StoreUnavailableError(f"{path}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def copy_file(source: str, target: Path) -> None:
    """Copy a file's bytes in another process; instantly where the file system shares blocks."""
    command = ["cp", "--reflink=auto", "--", source, str(target)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=COPY_TIMEOUT_S)
    if done.returncode:
        raise StoreUnavailableError(
            f"{source} could not be copied: {done.stderr.decode(errors='replace').strip()}",
            hint="The staging folder needs as much room as the database.",
        )


def _stat(path: str) -> os.stat_result:
    try:
        found = Path(path).stat()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path} does not exist",
            hint="Correct the artefact's path, or retire it; its last good copy is kept.",
        ) from error
    except OSError as error:
        raise StoreUnavailableError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise NotFoundError(f"{path} is no file", hint="Name the database's file.")
    return found
