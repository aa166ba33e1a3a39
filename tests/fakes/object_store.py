"""An object store in memory, dated by a clock under the test's hand."""

from __future__ import annotations

from collections.abc import Iterable

from fleet.errors import NotFoundError
from fleet.ports.clock import Clock
from fleet.ports.object_store import ListedObject
from resources.object_store.keys import validate_key
from resources.object_store.probe import probe_store


class InMemoryObjectStore:
    """The `ObjectStore` port on a dictionary."""

    def __init__(self, clock: Clock) -> None:
        """Start empty."""
        self.clock = clock
        self.objects: dict[str, bytes] = {}
        self.listed: dict[str, ListedObject] = {}

    def create(self, key: str, data: bytes) -> bool:
        """Create-only."""
        if validate_key(key) in self.objects:
            return False
        self.objects[key] = bytes(data)
        self.listed[key] = ListedObject(key, len(data), self.clock.now())
        return True

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """A range."""
        if key not in self.objects:
            raise NotFoundError(f"object {key} does not exist")
        end = None if length is None else offset + length
        return self.objects[key][offset:end]

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """In order of keys."""
        return sorted(
            one for key, one in self.listed.items() if key.startswith(prefix) and key > after
        )

    def delete(self, keys: Iterable[str]) -> None:
        """Absent ones are passed over."""
        for key in keys:
            self.objects.pop(key, None)
            self.listed.pop(key, None)

    def check(self) -> list[str]:
        """The self-test."""
        return probe_store(self, "memory")

    def replace(self, key: str, data: bytes) -> None:
        """What no port can do: damage, or an enemy."""
        self.objects[key] = data
        self.listed[key] = self.listed[key]._replace(size_bytes=len(data))

    def copy(self) -> InMemoryObjectStore:
        """The same objects in another store."""
        other = InMemoryObjectStore(self.clock)
        other.objects, other.listed = dict(self.objects), dict(self.listed)
        return other
