"""Verified local copies of generations, which processes of a node map together.

A copy is made in a folder of its own and renamed when every byte has been checked: the rename is
its commit. Each process checks a copy's SHA-256 once more before its first use, so that a disk that
rots is found too; a copy that is not what it was is thrown away and made anew, once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from fleet.errors import CorruptObjectError, StoreUnavailableError
from fleet.vectors.records import IndexManifest, PartFile
from resources.synced_files import sync_folder

INDEX_FILE = "index.faiss"
ROWS_FILE = "rows.arrow"
FILES = (INDEX_FILE, ROWS_FILE)
_STAGING = ".fetching-"
_LEFTOVER_AGE_S = 3600.0
_READ_BYTES = 1024 * 1024


class LocalCopies:
    """Copies below one folder: `<network>/<generation>/<file>`.

    Args:
        root: created when missing.
        read_part: reads a stored part (generation's manifest, part); its bytes are checked here.
    """

    def __init__(self, root: Path, read_part: Callable[[IndexManifest, PartFile], bytes]) -> None:
        """Nothing is touched yet."""
        self._root = root
        self._read_part = read_part
        self._verified: dict[Path, tuple[int, int, int, int]] = {}

    def open(self, manifest: IndexManifest) -> Path:
        """Folder with the verified files of a generation.

        Raises:
            CorruptObjectError: a stored part is damaged; nothing of it is kept.
            NotFoundError: the generation was removed meanwhile.
            StoreUnavailableError: no room, or the folder cannot be written.
        """
        folder = self._root / manifest.network_id / manifest.generation
        try:
            if folder.is_dir():
                if self._is_sound(folder, manifest):
                    return folder
                shutil.rmtree(folder, ignore_errors=True)
            self._fetch(folder, manifest)
            if not self._is_sound(folder, manifest):
                raise CorruptObjectError(
                    f"{folder} changed while it was written", hint="Check this node's disk."
                )
        except OSError as error:
            raise StoreUnavailableError(
                f"local copy {folder}: {error.strerror or error}",
                hint="Check the free space and owner of the folder of local copies.",
            ) from error
        return folder

    def trim(self, network_id: str, keep: set[str]) -> list[str]:
        """Remove copies of other generations; those that are mapped live on until closed."""
        folder = self._root / network_id
        gone = []
        for path in sorted(folder.glob("*")) if folder.is_dir() else []:
            is_fetching = path.name.startswith(_STAGING)
            if is_fetching and time.time() - path.stat().st_mtime < _LEFTOVER_AGE_S:
                continue
            if path.name not in keep:
                shutil.rmtree(path, ignore_errors=True)
                gone.append(path.name)
        return gone

    def _fetch(self, folder: Path, manifest: IndexManifest) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = folder.parent / f"{_STAGING}{uuid.uuid4().hex}"
        staging.mkdir()
        try:
            for name in FILES:
                with (staging / name).open("wb") as file:
                    self._write_parts(file, manifest, name)
                    file.flush()
                    os.fsync(file.fileno())
            sync_folder(staging)
            try:
                staging.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise  # otherwise another process of this node was first
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _write_parts(self, file: IO[bytes], manifest: IndexManifest, name: str) -> None:
        for part in manifest.parts:
            if part.file == name:
                data = self._read_part(manifest, part)
                demand_part(data, manifest, part)
                file.write(data)

    def _is_sound(self, folder: Path, manifest: IndexManifest) -> bool:
        return all(self._is_file_sound(folder / name, manifest) for name in FILES)

    def _is_file_sound(self, path: Path, manifest: IndexManifest) -> bool:
        """Compare a file with its parts; once per process and state of the file."""
        parts = [part for part in manifest.parts if part.file == path.name]
        try:
            stat = path.stat()
            signature = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            if self._verified.get(path) == signature:
                return True
            if stat.st_size != sum(part.size_bytes for part in parts):
                return False
            with path.open("rb") as file:
                sound = all(_digest(file, part.size_bytes) == part.sha256 for part in parts)
        except FileNotFoundError:
            return False
        if sound:
            self._verified[path] = signature
        return sound


def demand_part(data: bytes, manifest: IndexManifest, part: PartFile) -> None:
    """Accept a part whose bytes are those of the manifest.

    Raises:
        CorruptObjectError: they are not.
    """
    if len(data) != part.size_bytes or hashlib.sha256(data).hexdigest() != part.sha256:
        raise CorruptObjectError(
            f"index {manifest.network_id}/{manifest.generation}: {part.name} has {len(data)} bytes "
            f"that differ from the {part.size_bytes} of its manifest",
            hint="Publish an earlier generation again, restore a backup, or rebuild the index.",
        )


def _digest(file: IO[bytes], size_bytes: int) -> str:
    """SHA-256 of the next bytes of a file."""
    digest = hashlib.sha256()
    for piece in _pieces(file, size_bytes):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(file: IO[bytes], size_bytes: int) -> Iterator[bytes]:
    while size_bytes > 0 and (piece := file.read(min(_READ_BYTES, size_bytes))):
        size_bytes -= len(piece)
        yield piece
