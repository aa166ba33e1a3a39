"""States, groups and silences of alerts as files of one folder.

A document is written beside its place, synced, and renamed over it: the rename is the commit, and
its folder entry is synced too. Each file begins with the SHA-256 of what follows (zstd), so that a
damaged one is told from an old one. Updates hold a lock of the kernel, which dies with its process.

A crash between the write and the rename leaves a `.new` file, which the next write replaces.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import CorruptObjectError, StoreUnavailableError
from resources.synced_files import sync_folder

MAGIC = b"stateroom-alerts-1 "
_LOCK = "lock"


class DirectoryAlertStore:
    """The documents of one folder; safe for several processes of one machine."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, made at the first write."""
        self._folder = folder

    def read(self, name: str) -> str | None:
        """See the port."""
        import zstandard

        path = self._path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unavailable(f"cannot read {path}", error) from error
        digest, _, body = data.removeprefix(MAGIC).partition(b"\n")
        if not data.startswith(MAGIC) or digest != hashlib.sha256(body).hexdigest().encode():
            raise CorruptObjectError(
                f"{path} does not match its checksum",
                hint="It is set aside by the next evaluation; look at the disk.",
            )
        return zstandard.ZstdDecompressor().stream_reader(body).read().decode()

    def write(self, name: str, text: str) -> None:
        """See the port; committed by the rename."""
        with self._locked():
            self._replace(name, text)

    def update(self, name: str, change: Callable[[str | None], str]) -> str:
        """See the port; the lock is held from the read to the rename."""
        with self._locked():
            text = change(self.read(name))
            self._replace(name, text)
        return text

    def set_aside(self, name: str) -> str:
        """See the port: the file keeps its bytes under `<name>.damaged`."""
        path = self._path(name)
        target = path.with_suffix(".damaged")
        with self._locked():
            try:
                path.replace(target)
                sync_folder(self._folder)
            except OSError as error:
                raise self._unavailable(f"cannot move {path}", error) from error
        return str(target)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json.zst"

    def _replace(self, name: str, text: str) -> None:
        import zstandard

        body = zstandard.ZstdCompressor(level=1).compress(text.encode())
        data = MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body
        path = self._path(name)
        beside = path.with_suffix(".new")
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            sync_folder(self._folder)
        except OSError as error:
            raise self._unavailable(f"cannot write {path}", error) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._unavailable(f"cannot use {self._folder}", error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _unavailable(self, what: str, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{what}: {error.strerror or error}",
            hint="Look at the disk and at the rights of the folder; nothing was changed.",
        )
