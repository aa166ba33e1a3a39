"""An object store whose own clock is the test's: objects are dated by it when they are created."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from fleet.ports.clock import Clock
from fleet.ports.object_store import ListedObject, ObjectStore, StoreFeatures


class ClockedStore:
    """Wraps a store; what it did not create itself keeps the date of the store below."""

    def __init__(self, inner: ObjectStore, clock: Clock) -> None:
        """Dates begin with the first object that is created through it."""
        self.inner = inner
        self.clock = clock
        self.modified_at: dict[str, datetime] = {}

    def create(self, key: str, data: bytes) -> bool:
        """Dated now, if it is new."""
        created = self.inner.create(key, data)
        if created:
            self.modified_at[key] = self.clock.now()
        return created

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """As the store below."""
        return self.inner.get(key, offset, length)

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """With the dates of this clock."""
        return [
            one._replace(modified_at=self.modified_at.get(one.key, one.modified_at))
            for one in self.inner.list_objects(prefix, after)
        ]

    def delete(self, keys: Iterable[str]) -> None:
        """As the store below."""
        self.inner.delete(keys)

    def check(self) -> list[str]:
        """As the store below."""
        return self.inner.check()

    def features(self) -> StoreFeatures:
        """As the store below."""
        return self.inner.features()

    def extend_lock(self, keys: Iterable[str], until: datetime) -> int:
        """As the store below, whose locks end by the real clock."""
        return self.inner.extend_lock(keys, until)
