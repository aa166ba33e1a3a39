"""A lake in a dictionary: answers like `ParquetLake`, without files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fleet.errors import InvalidInputError, NotFoundError
from fleet.lake import (
    HISTORY_SUFFIX,
    ObjectKind,
    day_prefix,
    object_key,
    order_of,
    parse_key,
    select_newest,
    validate_partition,
    validate_table,
    validate_tick,
)
from fleet.ports.lake import LakeObject
from resources.lake.parquet_codec import check_rows, conform, stamp_rows, strip_stamp, unify
from resources.lake.query import QueryLimits, run_query


class InMemoryLake:
    """Stamped Arrow tables by key; a merged day takes the place of its ticks in one step."""

    def __init__(self, limits: QueryLimits | None = None) -> None:
        """Begin empty."""
        self._limits = limits or QueryLimits()
        self._stored: dict[str, tuple[LakeObject, pa.Table]] = {}
        self._holders: dict[tuple[str, str, datetime], tuple[str, LakeObject]] = {}

    def write(self, table: str, partition: str, rows: Any, at: datetime) -> LakeObject:
        """Keep rows; the same again is success, others for the same tick are refused."""
        validate_table(table)
        validate_partition(partition)
        at = validate_tick("at", at)
        stamped = stamp_rows(check_rows(rows), partition, at)
        digest, holder = self._holders.get((table, partition, at), ("", None))
        if holder is not None and holder.key in self._stored:
            if digest != _digest(stamped):
                raise InvalidInputError("at", at.isoformat(), "a tick that holds no other rows")
            return holder
        found = self._keep(table, partition, at, stamped, ObjectKind.TICK)
        self._holders[table, partition, at] = (_digest(stamped), found)
        return found

    def _keep(
        self, table: str, partition: str, at: datetime, stamped: pa.Table, kind: ObjectKind
    ) -> LakeObject:
        """Store one object."""
        key = object_key(table, partition, at, stamped.num_rows, _digest(stamped), kind)
        found = parse_key(key, stamped.nbytes)
        assert found is not None
        self._stored[key] = (found, stamped)
        return found

    def read_latest(self, table: str, partition: str | None = None) -> pa.Table:
        """Newest rows of one or all partitions."""
        newest = self._newest(table, partition)
        if not newest:
            raise self._nothing(table)
        parts = [strip_stamp(self._last_tick(found)) for found in newest]
        if len(parts) == 1:
            return parts[0]
        schema = unify([part.schema for part in parts], table)
        return pa.concat_tables([conform(part, schema) for part in parts])

    def history(
        self, table: str, since: datetime, until: datetime, partition: str | None = None
    ) -> pa.Table:
        """Rows of a range of ticks, by tick."""
        since, until = validate_tick("since", since), validate_tick("until", until)
        if not self.objects(table, partition):
            raise self._nothing(table)
        tick = pc.field("tick")
        rows = self._all(table, partition).filter((tick >= since) & (tick < until))
        return rows.sort_by([("tick", "ascending"), ("partition", "ascending")])

    def objects(self, table: str, partition: str | None = None) -> list[LakeObject]:
        """Objects, oldest first."""
        validate_table(table)
        if partition is not None:
            validate_partition(partition)
        found = (each for each, _ in self._stored.values() if each.table == table)
        return sorted((each for each in found if partition in {None, each.partition}), key=order_of)

    def tables(self) -> list[str]:
        """Tables with an object."""
        return sorted({found.table for found, _ in self._stored.values()})

    def compact(self, table: str, partition: str, day: datetime) -> LakeObject | None:
        """Merge a day's objects."""
        folder = day_prefix(table, partition, validate_tick("day", day))
        members = [
            each for each in self.objects(table, partition) if each.key.startswith(f"{folder}/")
        ]
        if len(members) < 2:
            return None
        schema = unify([self._stored[each.key][1].schema for each in members], table)
        rows = pa.concat_tables([conform(self._stored[each.key][1], schema) for each in members])
        merged = self._keep(table, partition, members[-1].written_at, rows, ObjectKind.DAY)
        for each in members:
            del self._stored[each.key]
        for tick, (digest, holder) in list(self._holders.items()):
            if holder in members:
                self._holders[tick] = (digest, merged)
        return merged

    def remove(self, objects: Iterable[LakeObject]) -> int:
        """Forget objects."""
        return sum(self._stored.pop(each.key, None) is not None for each in objects)

    def query(self, sql: str) -> pa.Table:
        """One SELECT, by the same DuckDB as the real lake."""
        tables = self.tables()
        views = [*tables, *(f"{table}{HISTORY_SUFFIX}" for table in tables)]
        return run_query(sql, views, self._view, self._limits)

    def _view(self, name: str) -> list[Any]:
        """Arrow tables of one view."""
        table = name.removesuffix(HISTORY_SUFFIX)
        if name != table:
            return [self._all(table, None)]
        return [self._last_tick(found) for found in self._newest(table, None)]

    def _all(self, table: str, partition: str | None) -> pa.Table:
        """All rows of a table."""
        parts = [self._stored[each.key][1] for each in self.objects(table, partition)]
        schema = unify([part.schema for part in parts], table)
        return pa.concat_tables([conform(part, schema) for part in parts])

    def _newest(self, table: str, partition: str | None) -> list[LakeObject]:
        """The newest object of each partition, by partition."""
        newest = select_newest(self.objects(table, partition))
        return [newest[each] for each in sorted(newest)]

    def _last_tick(self, found: LakeObject) -> pa.Table:
        """Rows of an object's last tick."""
        return self._stored[found.key][1].filter(pc.field("tick") == found.written_at)

    def _nothing(self, table: str) -> NotFoundError:
        """The error for a table without objects."""
        return NotFoundError(f"no object of table {table}; tables: {', '.join(self.tables())}")


def _digest(stamped: pa.Table) -> str:
    """Checksum of rows with their schema."""
    text = repr((str(stamped.schema), stamped.to_pylist()))
    return hashlib.sha256(text.encode()).hexdigest()
