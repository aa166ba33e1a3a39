"""What a lake holds: listings of its byte store, read by the rules of `fleet.lake`.

Invariant: a listing is of one folder at one moment, so what it calls live is counted once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fleet.lake import (
    ObjectKind,
    day_prefix,
    file_name,
    order_of,
    parse_key,
    select_live,
    tick_text,
)
from fleet.ports.lake import LakeObject
from resources.lake import parquet_codec as codec
from resources.lake.byte_store import ByteStore

if TYPE_CHECKING:
    import pyarrow as pa

REMEMBERED_MAX = 10_000
"""Objects whose schema or sources a lake remembers; beyond it, it begins anew."""

_T = TypeVar("_T")


class Catalog:
    """Listings of one lake; remembers what objects say of themselves, as they never change."""

    def __init__(self, store: ByteStore) -> None:
        """List what is in `store`."""
        self._store = store
        self._sources: dict[str, frozenset[str]] = {}
        self._schemas: dict[str, pa.Schema] = {}

    def days(self, table: str, partition: str | None) -> list[str]:
        """Day folders of a table or one partition, by partition and day."""
        partitions = self._store.folders(table) if partition is None else [partition]
        return [
            f"{table}/{each}/{day}"
            for each in partitions
            for day in self._store.folders(f"{table}/{each}")
        ]

    def listed(self, folder: str) -> list[LakeObject]:
        """Every object in a day folder, by key."""
        parsed = (parse_key(each.key, each.size_bytes) for each in self._store.objects(folder))
        return [found for found in parsed if found is not None]

    def live(self, folder: str) -> list[LakeObject]:
        """The objects of a day folder that count, oldest first."""
        return self.live_of(self.listed(folder))

    def live_of(self, listed: list[LakeObject]) -> list[LakeObject]:
        """The objects of one folder's listing that count, oldest first."""
        if len(listed) < 2:
            return listed
        days = [found for found in listed if found.kind == ObjectKind.DAY]
        return select_live(listed, {found.key: self.sources_of(found) for found in days})

    def sources_of(self, found: LakeObject) -> frozenset[str]:
        """What a day object supersedes; objects never change, so it is read once."""
        sources = self._sources.get(found.key)
        if sources is None:
            path = self._store.fetch(found.key, found.sha256)
            sources = codec.read_sources(path)
            _remember(self._sources, found.key, sources)
        return sources

    def schema(self, table: str, live: list[LakeObject]) -> pa.Schema:
        """Columns of the newest object of each partition and day, united.

        A column that came and went within one day of ticks is left out until the day is merged:
        opening each of 10,000 objects for its columns would cost more than the answer.
        """
        newest = {found.key.rpartition("/")[0]: found for found in sorted(live, key=order_of)}
        schemas = []
        for found in newest.values():
            schema = self._schemas.get(found.key)
            if schema is None:
                schema = codec.read_schema(self._store.fetch(found.key, found.sha256))
                _remember(self._schemas, found.key, schema)
            schemas.append(schema)
        return codec.unify(list(dict.fromkeys(schemas)), table)

    def newest(self, table: str, partition: str | None) -> list[LakeObject]:
        """The newest object of each partition, its size left 0; lists one day folder each."""
        partitions = self._store.folders(table) if partition is None else [partition]
        newest = []
        for each in partitions:
            for day in reversed(self._store.folders(f"{table}/{each}")):
                found = self.newest_of(f"{table}/{each}/{day}")
                if found is not None:
                    newest.append(found)
                    break
        return newest

    def newest_of(self, folder: str) -> LakeObject | None:
        """The newest live object of a day folder; without merged days it is the last name's."""
        keys = [f"{folder}/{name}" for name in self._store.names(folder)]
        if any(key.endswith(".day.parquet") for key in keys):
            live = self.live_of([each for each in map(_unsized, keys) if each is not None])
            return live[-1] if live else None
        last: LakeObject | None = None
        for found in filter(None, map(_unsized, reversed(keys))):
            if last is not None and found.written_at < last.written_at:
                break
            last = found
        return last

    def names_in(self, listed: list[LakeObject]) -> set[str]:
        """File names of objects and of everything that they supersede."""
        names = {file_name(found.key) for found in listed}
        days = (found for found in listed if found.kind == ObjectKind.DAY)
        return names.union(*(self.sources_of(found) for found in days))

    def rivals_and_days(self, new: LakeObject) -> list[LakeObject]:
        """Objects of one's tick, and the merged days that may hold it; their sizes are 0.

        Only their names are looked at: a write must not cost more the more ticks a day has.
        """
        folder = day_prefix(new.table, new.partition, new.written_at)
        tick = f"{tick_text(new.written_at)}-"
        names = (
            name
            for name in self._store.names(folder)
            if name.startswith(tick) or name.endswith(".day.parquet")
        )
        parsed = (_unsized(f"{folder}/{name}") for name in names)
        return [found for found in parsed if found is not None]


def _unsized(key: str) -> LakeObject | None:
    """The object of a key, where its size is of no interest."""
    return parse_key(key, 0)


def _remember(memory: dict[str, _T], key: str, value: _T) -> None:
    """Keep a value in a bounded memory."""
    if len(memory) >= REMEMBERED_MAX:
        memory.clear()
    memory[key] = value
