"""An object store that ends its user at the k-th operation, and one that counts operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from threading import Lock
from typing import TypeVar

import pytest

from fleet.errors import StoreUnavailableError
from fleet.ports.object_store import ListedObject, ObjectStore, StoreFeatures

T = TypeVar("T")

CRASHES = [pytest.param("before", marks=pytest.mark.long), "after", "lost"]
"""For tests that crash at every operation. Killed before one is killed after the one before it, as
long as one thread works, so `make test` leaves that to `make test-all`."""


class Crashed(BaseException):
    """The process is gone: nothing catches it, as nothing catches SIGKILL."""


class CrashingStore:
    """Fails at operation `number`: `before` it, `after` it, or with its answer `lost`.

    `before` and `after` stand for a killed process: every later call fails too. With `lost` the
    operation is done, the caller is told that the store did not answer, and goes on.
    """

    def __init__(self, inner: ObjectStore, number: int = 0, mode: str = "before") -> None:
        """0 as `number` never fails."""
        self.inner = inner
        self.number = number
        self.mode = mode
        self.calls = 0
        self.counts: Counter[str] = Counter()
        self._lock = Lock()

    def _run(self, name: str, work: Callable[[], T]) -> T:
        with self._lock:
            self.calls += 1
            self.counts[name] += 1
            now = self.calls
        if self.mode != "lost" and self.number and now > self.number:
            raise Crashed(name)
        if now == self.number and self.mode == "before":
            raise Crashed(name)
        result = work()
        if now == self.number:
            if self.mode == "after":
                raise Crashed(name)
            raise StoreUnavailableError(f"{name}: answer lost")
        return result

    def create(self, key: str, data: bytes) -> bool:
        """Counted."""
        return self._run("create", lambda: self.inner.create(key, data))

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Counted."""
        return self._run("get", lambda: self.inner.get(key, offset, length))

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """Counted."""
        return self._run("list", lambda: self.inner.list_objects(prefix, after))

    def delete(self, keys: Iterable[str]) -> None:
        """Counted as one."""
        self._run("delete", lambda: self.inner.delete(list(keys)))

    def check(self) -> list[str]:
        """Counted as one."""
        return self._run("check", self.inner.check)

    def features(self) -> StoreFeatures:
        """Counted as one."""
        return self._run("features", self.inner.features)

    def extend_lock(self, keys: Iterable[str], until: datetime) -> int:
        """Counted as one."""
        return self._run("extend_lock", lambda: self.inner.extend_lock(list(keys), until))

    def purge(self, prefix: str) -> dict[str, datetime]:
        """Counted as one."""
        return self._run("purge", lambda: self.inner.purge(prefix))


def count_operations(store: ObjectStore, work: Callable[[CrashingStore], object]) -> int:
    """How many store operations `work` takes when nothing fails."""
    counting = CrashingStore(store)
    work(counting)
    return counting.calls
