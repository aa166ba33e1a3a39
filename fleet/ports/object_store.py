"""Immutable objects under keys, created once: what a backup vault stands on."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, Protocol


class ListedObject(NamedTuple):
    """An object as its store lists it."""

    key: str
    size_bytes: int
    modified_at: datetime
    """By the store's own clock."""


class StoreFeatures(NamedTuple):
    """What a store offers beyond the one primitive."""

    versioned: bool
    """A delete only hides: the bytes stay until their lock ends and somebody purges them."""
    lock_days: int | None
    """How long each new object is locked against deletion; None for no lock."""
    place: str
    """Where it is, for people: `s3://bucket/prefix`, or a folder."""


class ReadableStore(Protocol):
    """Immutable objects under keys, as far as reading known ones needs it."""

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """An object, or `length` bytes of it from `offset`; shorter when it ends before.

        Raises:
            NotFoundError: there is no such object.
            StoreUnavailableError: it cannot be read now.
        """
        ...


class ObjectStore(ReadableStore, Protocol):
    """Immutable objects under keys with '/': the one primitive is create-only.

    Nothing is ever overwritten, so whatever was read may be cached for ever.
    """

    def create(self, key: str, data: bytes) -> bool:
        """Store an object durably, as a whole or not at all; False when the key exists already.

        Raises:
            StoreUnavailableError: the outcome is unknown or nothing was stored; read the key to
                find out (`get`), or call again: the second call then answers False.
        """
        ...

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """Objects whose key begins with `prefix` and is greater than `after`, ordered by key."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are passed over."""
        ...

    def check(self) -> list[str]:
        """Prove that the store can do what the protocol needs; the faults found, in words.

        Creates and deletes objects under `probe/`: the second create of one key must be refused,
        a listing must show the object at once, a ranged read must give the range.
        """
        ...

    def features(self) -> StoreFeatures:
        """What this store offers; asks the store where that is not known.

        Raises:
            StoreUnavailableError: it cannot be asked now.
            PermanentError: a lock is wanted that this store cannot give.
        """
        ...

    def extend_lock(self, keys: Iterable[str], until: datetime) -> int:
        """Lock objects at least until a moment; how many locks were extended.

        Those that are locked for longer already are left alone: no lock is ever shortened, so the
        same call may be repeated.

        Raises:
            NotFoundError: an object does not exist.
            PermanentError: this store has no locks.
        """
        ...

    def purge(self, prefix: str) -> dict[str, datetime]:
        """Delete everything below a folder (ends in '/'), with all hidden versions.

        Returns:
            What a lock still keeps, by key, with the end of its lock; that is hidden, and a later
            call deletes it. Empty when nothing is left.
        """
        ...
