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


class ObjectStore(Protocol):
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

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """An object, or `length` bytes of it from `offset`; shorter when it ends before.

        Raises:
            NotFoundError: there is no such object.
            StoreUnavailableError: it cannot be read now.
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
