"""An object store that reports how much has been read through it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime

from fleet.ports.object_store import ListedObject, ObjectStore, StoreFeatures
from fleet.ports.progress import Progress


class MeteredStore:
    """The `ObjectStore` port in front of another one; safe to use from several threads.

    Args:
        store: does the work.
        progress: is told of every read.
        what: name of the work.
    """

    def __init__(self, store: ObjectStore, progress: Progress, what: str) -> None:
        """Nothing is read yet."""
        self._store = store
        self._progress = progress
        self._what = what
        self._lock = threading.Lock()
        self._done = self._total = 0

    def expect(self, size_bytes: int) -> None:
        """Raise the estimate of all that will be read."""
        with self._lock:
            self._total += size_bytes
            self._progress.advance(self._what, self._done, self._total)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `fleet.ports.ObjectStore.get`."""
        data = self._store.get(key, offset, length)
        with self._lock:
            self._done += len(data)
            self._progress.advance(self._what, self._done, self._total)
        return data

    def create(self, key: str, data: bytes) -> bool:
        """See `fleet.ports.ObjectStore.create`."""
        return self._store.create(key, data)

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """See `fleet.ports.ObjectStore.list_objects`."""
        return self._store.list_objects(prefix, after)

    def delete(self, keys: Iterable[str]) -> None:
        """See `fleet.ports.ObjectStore.delete`."""
        self._store.delete(keys)

    def check(self) -> list[str]:
        """See `fleet.ports.ObjectStore.check`."""
        return self._store.check()

    def features(self) -> StoreFeatures:
        """See `fleet.ports.ObjectStore.features`."""
        return self._store.features()

    def extend_lock(self, keys: Iterable[str], until: datetime) -> int:
        """See `fleet.ports.ObjectStore.extend_lock`."""
        return self._store.extend_lock(keys, until)

    def purge(self, prefix: str) -> dict[str, datetime]:
        """See `fleet.ports.ObjectStore.purge`."""
        return self._store.purge(prefix)
