"""An object store that fails on purpose, by seed: before the write, or after it (lost answer)."""

import random
from collections.abc import Iterable
from datetime import datetime

from fleet.errors import StoreUnavailableError
from fleet.ports.object_store import ListedObject, ObjectStore, StoreFeatures


class FaultyStore:
    """Wraps a store; each call fails with a probability, half of the creates after the write."""

    def __init__(self, inner: ObjectStore, seed: int, failure_rate: float) -> None:
        """Keep the store and the dice."""
        self.inner = inner
        self.chance = random.Random(seed)
        self.failure_rate = failure_rate
        self.calls = 0

    def _maybe_fail(self, what: str) -> None:
        self.calls += 1
        if self.chance.random() < self.failure_rate:
            raise StoreUnavailableError(f"{what}: injected")

    def create(self, key: str, data: bytes) -> bool:
        """Fails before the write, or after it."""
        self._maybe_fail(key)
        stored = self.inner.create(key, data)
        self._maybe_fail(key)
        return stored

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Fails before the read."""
        self._maybe_fail(key)
        return self.inner.get(key, offset, length)

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """Fails before the listing."""
        self._maybe_fail(prefix)
        return self.inner.list_objects(prefix, after)

    def delete(self, keys: Iterable[str]) -> None:
        """Fails before the deletion."""
        self._maybe_fail("delete")
        self.inner.delete(keys)

    def check(self) -> list[str]:
        """Not damaged: the self-test is about the store itself."""
        return self.inner.check()

    def features(self) -> StoreFeatures:
        """Fails before the answer."""
        self._maybe_fail("features")
        return self.inner.features()

    def extend_lock(self, keys: Iterable[str], until: datetime) -> int:
        """Fails before the extension."""
        self._maybe_fail("extend_lock")
        return self.inner.extend_lock(keys, until)

    def purge(self, prefix: str) -> dict[str, datetime]:
        """Fails before the deletion."""
        self._maybe_fail(prefix)
        return self.inner.purge(prefix)
