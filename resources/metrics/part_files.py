"""Objects of the store as verified Parquet files on this machine.

A store in a folder is read where it lies. Of any other store each object is fetched once into a
folder, under its sha256: objects never change, so a copy is never out of date. A copy is written
beside its name and renamed, so a killed process leaves no half one.
"""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fleet.errors import CorruptObjectError, LakeUnavailableError
from fleet.ports.object_store import ObjectStore
from resources.metrics.store_log import translated

if TYPE_CHECKING:
    import pyarrow.parquet as pq

CACHE_BYTES = 8 * 1024**3


class Stored(Protocol):
    """What an entry of the log says of an object."""

    @property
    def key(self) -> str:
        """Where it lies."""
        ...

    @property
    def sha256(self) -> str:
        """Of its bytes, hexadecimal."""
        ...

    @property
    def size_bytes(self) -> int:
        """How many there are."""
        ...


class PartFiles:
    """Opens parts; safe to use from several threads.

    Args:
        store: where they are.
        root: folder of the store, when it is one.
        cache: folder of copies otherwise; None holds each part in memory while it is read.
        cache_bytes: copies that were used longest ago are dropped beyond it.
    """

    def __init__(
        self,
        store: ObjectStore,
        root: Path | None = None,
        cache: Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Nothing is touched before the first part is opened."""
        self._store = store
        self._root = root
        self._cache = cache
        self._cache_bytes = cache_bytes
        self._verified: dict[str, tuple[int, ...]] = {}
        self._lock = threading.Lock()

    def open(self, one: Stored) -> pq.ParquetFile:
        """A part, its bytes verified.

        Raises:
            NotFoundError: it is gone: compacted or expired since the log was read.
            CorruptObjectError: its bytes are others; it is named.
            LakeUnavailableError: it cannot be read now.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._root is not None:
            source: Any = self._verified_path(self._root / one.key, one)
        elif self._cache is not None:
            source = self._copy(one)
        else:
            source = pa.BufferReader(self._fetched(one))
        return pq.ParquetFile(source, memory_map=isinstance(source, str), pre_buffer=False)

    def verify(self, one: Stored) -> None:
        """Read an object anew and compare its bytes; raises as `open` does."""
        self._fetched(one)

    def _fetched(self, one: Stored) -> bytes:
        with translated():
            data = self._store.get(one.key)
        if hashlib.sha256(data).hexdigest() != one.sha256:
            raise damaged(one)
        return data

    def _verified_path(self, path: Path, one: Stored) -> str:
        """The path of a file whose bytes were verified since it last changed."""
        try:
            stamp = _stamp(path)
            if self._verified.get(one.key) != stamp:
                if _sha256(path) != one.sha256:
                    raise damaged(one)
                self._verified[one.key] = stamp
        except FileNotFoundError:
            self._fetched(one)  # raises: the store says in its own words that it is gone
            raise
        except OSError as error:
            raise LakeUnavailableError(f"metric store: {one.key}: {error.strerror}") from error
        return str(path)

    def _copy(self, one: Stored) -> str:
        assert self._cache is not None
        path = self._cache / f"{one.sha256}.parquet"
        with self._lock:
            if path.exists():
                try:
                    os.utime(path)
                    return self._verified_path(path, one)
                except CorruptObjectError:
                    path.unlink(missing_ok=True)  # the copy is damaged: fetch the object again
            data = self._fetched(one)
            try:
                self._cache.mkdir(parents=True, exist_ok=True)
                self._make_room(len(data))
                temporary = self._cache / f".{uuid.uuid4().hex}"
                temporary.write_bytes(data)
                temporary.rename(path)
            except OSError as error:
                raise LakeUnavailableError(
                    f"cache of the metric store: {path}: {error.strerror}",
                    hint="Free space on its disk (metrics.cache_path), or lower metrics.cache_mib.",
                ) from error
            self._verified[one.key] = _stamp(path)
            return str(path)

    def _make_room(self, size_bytes: int) -> None:
        assert self._cache is not None
        copies = sorted((path.stat().st_atime_ns, path) for path in self._cache.glob("*.parquet"))
        held = sum(path.stat().st_size for _, path in copies)
        for _, path in copies:
            if held + size_bytes <= self._cache_bytes:
                return
            held -= path.stat().st_size
            path.unlink(missing_ok=True)


def damaged(one: Stored) -> CorruptObjectError:
    """The error for bytes that are not those that were committed."""
    return CorruptObjectError(
        f"metric store: {one.key} does not have the sha256 that the log says",
        hint="A rollup is made anew by metric_retention_job; restore raw samples from a backup.",
    )


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
