"""What the lake asks of the place where its bytes live.

Four guarantees are enough, and both a directory and an object store with put-if-absent give them:
`commit` creates a key as a whole or not at all and never replaces one; what `commit` acknowledged
survives a power cut; a listing shows what was committed before it began; bytes handed out by
`fetch` match the checksum.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from fleet.errors import NotFoundError


class VanishedError(NotFoundError):
    """A listed object is gone: compacted or removed meanwhile. List anew."""


class StoredObject(NamedTuple):
    """A committed key and its size."""

    key: str
    size_bytes: int


class Staged(Protocol):
    """Bytes on their way into the store: a file object to write to, hashed as it grows."""

    def write(self, data: bytes | memoryview) -> int:
        """Append; returns how many bytes were taken (all of them)."""
        ...

    def sha256(self) -> str:
        """Checksum of what was written so far, hexadecimal."""
        ...

    def size_bytes(self) -> int:
        """How much was written so far."""
        ...


class ByteStore(Protocol):
    """Immutable objects under keys with '/'."""

    def stage(self) -> AbstractContextManager[Staged]:
        """Room for one object; on exit whatever was not committed is thrown away.

        Raises:
            LakeUnavailableError: no room can be made, or (from writes) the disk is full.
        """
        ...

    def commit(self, staged: Staged, key: str) -> bool:
        """Make the staged bytes visible under `key`, durably; False when the key exists already.

        The caller must have the checksum in the key and not commit twice.

        Raises:
            LakeUnavailableError: it could not be done; the key may be visible only if it was
                before.
        """
        ...

    def objects(self, prefix: str) -> list[StoredObject]:
        """Objects directly under a folder (no slash at its end), by key; empty when none.

        The listing was true at one moment, also while objects are created and removed.
        """
        ...

    def names(self, prefix: str) -> list[str]:
        """Names of the objects directly under a folder, sorted: as `objects`, without sizes."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly under a folder ('' for the top), sorted."""
        ...

    def fetch(self, key: str, sha256: str) -> str:
        """Path of a local file with the object's bytes, verified.

        Raises:
            VanishedError: there is no such object (any more).
            CorruptObjectError: its bytes do not match; it has been moved to quarantine.
            LakeUnavailableError: it cannot be read.
        """
        ...

    def remove(self, keys: Iterable[str]) -> int:
        """Delete objects; returns how many were there."""
        ...
