"""Objects in memory, for tests that build hundreds of vaults; under the same contract suite."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from threading import Lock

from fleet.errors import NotFoundError, PermanentError
from fleet.ports.object_store import ListedObject, StoreFeatures
from resources.object_store.keys import validate_folder, validate_key
from resources.object_store.probe import probe_store


class InMemoryObjectStore:
    """The `ObjectStore` port over a dictionary.

    Tests damage it through `objects`, and age an object through `modified`.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Empty; `now` is the store's own clock."""
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, datetime] = {}
        self._now = now
        self._lock = Lock()

    def copy(self) -> InMemoryObjectStore:
        """The same objects in another store."""
        other = InMemoryObjectStore(self._now)
        other.objects, other.modified = dict(self.objects), dict(self.modified)
        return other

    def create(self, key: str, data: bytes) -> bool:
        """See the port."""
        with self._lock:
            if validate_key(key) in self.objects:
                return False
            self.objects[key], self.modified[key] = bytes(data), self._now()
            return True

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See the port."""
        data = self.objects.get(validate_key(key))
        if data is None:
            raise NotFoundError(f"object {key} does not exist")
        return data[offset:] if length is None else data[offset : offset + length]

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """See the port."""
        with self._lock:
            keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
            return [ListedObject(key, len(self.objects[key]), self.modified[key]) for key in keys]

    def delete(self, keys: Iterable[str]) -> None:
        """See the port."""
        for key in keys:
            with self._lock:
                self.objects.pop(validate_key(key), None)
                self.modified.pop(key, None)

    def features(self) -> StoreFeatures:
        """See the port."""
        return StoreFeatures(versioned=False, lock_days=None, place="memory")

    def extend_lock(self, keys: Iterable[str], until: datetime) -> int:
        """See the port."""
        raise PermanentError(f"store memory cannot lock objects until {until}", hint="Use S3.")

    def purge(self, prefix: str) -> dict[str, datetime]:
        """See the port."""
        self.delete([one.key for one in self.list_objects(validate_folder(prefix))])
        return {}

    def check(self) -> list[str]:
        """See the port."""
        return probe_store(self, uuid.uuid4().hex)

    def replace(self, key: str, data: bytes) -> None:
        """What no port can do: damage, or an enemy."""
        self.objects[key] = data
