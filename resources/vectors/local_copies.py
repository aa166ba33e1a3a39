"""Verified local copies of the files of generations, which processes of a node map together.

A copy is named by what is in it, so generations that share a file share its copy. It is written
beside its place and renamed when every byte has been checked: the rename is its commit. Each
process checks a copy's SHA-256 once more before its first use, so that a disk that rots is found
too; a copy that is not what it was is replaced, once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fleet.errors import CorruptObjectError, StoreUnavailableError
from fleet.vectors.records import IndexManifest, PartFile
from resources.synced_files import sync_folder

INDEX_FILE = "index.faiss"
ROWS_FILE = "rows.arrow"
_STAGING = ".fetching-"
_LEFTOVER_AGE_S = 3600.0
"""A file that is being fetched is not left over before that."""
SUPERSEDED_AGE_S = 3600.0
"""A node that only reads keeps what it fetched at least so long: another of its processes may be
about to map it."""
_READ_BYTES = 1024 * 1024


class LocalCopies:
    """Copies below one folder: `<network>/<digest>.<file>`.

    Args:
        root: created when missing.
        read_part: reads a stored part (generation's manifest, part); its bytes are checked here.
    """

    def __init__(self, root: Path, read_part: Callable[[IndexManifest, PartFile], bytes]) -> None:
        """Nothing is touched yet."""
        self._root = root
        self._read_part = read_part
        self._verified: dict[Path, tuple[int, int, int, int]] = {}

    def open(self, manifest: IndexManifest, file: str) -> Path:
        """The verified copy of one file of a generation.

        Args:
            manifest: of the generation.
            file: as its parts name it.

        Raises:
            CorruptObjectError: a stored part is damaged; nothing of it is kept.
            NotFoundError: the generation was removed meanwhile.
            StoreUnavailableError: no room, or the folder cannot be written.
        """
        parts = _parts_of(manifest, file)
        path = self._root / manifest.network_id / copy_name(manifest, file)
        with _told(path):
            if not self._is_sound(path, parts):
                self._fetch(path, manifest, parts)
                if not self._is_sound(path, parts):
                    raise CorruptObjectError(
                        f"{path} changed while it was written", hint="Check this node's disk."
                    )
        return path

    def trim(self, network_id: str, keep: set[str], older_s: float = 0.0) -> list[str]:
        """Remove copies with other names; those that are mapped live on until closed.

        Args:
            network_id: the network.
            keep: names that stay.
            older_s: copies that were fetched since then stay, too.

        Raises:
            StoreUnavailableError: the folder cannot be written.
        """
        folder = self._root / network_id
        gone = []
        with _told(folder):
            for path in sorted(folder.glob("*")) if folder.is_dir() else []:
                is_fetching = path.name.startswith(_STAGING)
                age_s = max(older_s, _LEFTOVER_AGE_S) if is_fetching else older_s
                if path.name in keep or _is_younger(path, age_s):
                    continue
                if path.is_dir():  # an earlier version kept a folder for each generation
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
                self._verified.pop(path, None)
                gone.append(path.name)
        return gone

    def _fetch(self, path: Path, manifest: IndexManifest, parts: list[PartFile]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.parent / f"{_STAGING}{uuid.uuid4().hex}"
        try:
            with staging.open("xb") as file:
                for part in parts:
                    data = self._read_part(manifest, part)
                    demand_part(data, manifest, part)
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            staging.replace(path)  # whoever maps a damaged one keeps that until it is closed
            sync_folder(path.parent)
        finally:
            staging.unlink(missing_ok=True)

    def _is_sound(self, path: Path, parts: list[PartFile]) -> bool:
        """Compare a file with its parts; once per process and state of the file."""
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


def copy_name(manifest: IndexManifest, file: str) -> str:
    """Name of the copy of a file: a digest of the digests of its parts, and the file's own name."""
    digest = hashlib.sha256(
        "".join(f"{part.sha256}{part.size_bytes};" for part in _parts_of(manifest, file)).encode()
    )
    return f"{digest.hexdigest()[:32]}.{file}"


def copy_names(manifests: Iterable[IndexManifest]) -> set[str]:
    """Names of the copies of all files of generations."""
    return {
        copy_name(manifest, file)
        for manifest in manifests
        for file in {part.file for part in manifest.parts}
    }


def _parts_of(manifest: IndexManifest, file: str) -> list[PartFile]:
    return [part for part in manifest.parts if part.file == file]


def _is_younger(path: Path, age_s: float) -> bool:
    if not age_s:
        return False
    try:
        return time.time() - path.stat().st_mtime < age_s
    except FileNotFoundError:
        return True  # it has just got its name, or somebody else has removed it


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the disk says, as one clear error."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(
            f"local copy {path}: {error.strerror or error}",
            hint="Check the free space and owner of the folder of local copies.",
        ) from error


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
