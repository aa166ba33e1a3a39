"""The `Lake` port: Parquet objects in a byte store, every commit point a single atomic create.

Invariant: an object is listed only once it is whole and durable, and each row of each tick is
counted once, at every moment of a compaction and after a crash at any step of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    LakeUnavailableError,
    NotFoundError,
)
from fleet.lake import (
    HISTORY_SUFFIX,
    ObjectKind,
    day_prefix,
    file_name,
    is_same_tick,
    object_key,
    order_of,
    parse_key,
    validate_partition,
    validate_table,
    validate_tick,
)
from fleet.ports.lake import LakeObject
from resources.lake import parquet_codec as codec
from resources.lake.byte_store import ByteStore, Staged, VanishedError
from resources.lake.catalog import Catalog
from resources.lake.datasets import ScanWatch, between, history_dataset
from resources.lake.query import QueryLimits, run_query

if TYPE_CHECKING:
    import pyarrow as pa

LISTINGS_MAX = 10
"""How often a reader lists anew when objects vanish under it (compacted or removed meanwhile)."""

_T = TypeVar("_T")


class ParquetLake:
    """A lake on a byte store; safe to use from several threads and processes at once."""

    def __init__(self, store: ByteStore, limits: QueryLimits | None = None) -> None:
        """Use `store`; `limits` bound what one SQL query may take."""
        self._store = store
        self._limits = limits or QueryLimits()
        self._catalog = Catalog(store)

    def write(self, table: str, partition: str, rows: Any, at: datetime) -> LakeObject:
        """Commit rows for a tick; committed when the byte store's `commit` has returned.

        The same rows for the same tick again: nothing is written, success.

        Raises:
            InvalidInputError: a name, a column or `at` breaks a rule, or this tick was written
                with other rows.
            LakeUnavailableError: the disk is full or gone; nothing is visible.
        """
        validate_table(table)
        validate_partition(partition)
        at = validate_tick("at", at)
        stamped = codec.stamp_rows(codec.check_rows(rows), partition, at)
        with self._store.stage() as staged:
            with codec.open_writer(staged, stamped.schema) as writer:
                writer.write_table(stamped, row_group_size=codec.ROW_GROUP_ROWS)
            key = object_key(table, partition, at, stamped.num_rows, staged.sha256())
            found = parse_key(key, staged.size_bytes())
            assert found is not None
            merged = self._retry(lambda: self._written_before(found))
            if merged is not None:
                return merged
            self._commit(staged, found)
        self._yield_to_rival(found)
        return found

    def _written_before(self, new: LakeObject) -> LakeObject | None:
        """The day object that holds these very rows already, or None.

        Raises:
            InvalidInputError: the tick was written with other rows.
        """
        own = file_name(new.key)
        listed = self._catalog.rivals_and_days(new)
        for found in listed:
            if found.kind == ObjectKind.DAY and own in self._catalog.sources_of(found):
                folder = found.key.rpartition("/")[0]
                return next((o for o in self._catalog.listed(folder) if o.key == found.key), None)
        if any(name != own and is_same_tick(name, own) for name in self._catalog.names_in(listed)):
            raise _tick_taken(new)
        return None

    def _commit(self, staged: Staged, new: LakeObject) -> None:
        """Create the object; a damaged one under its key is quarantined and replaced."""
        for _ in range(LISTINGS_MAX):
            if self._store.commit(staged, new.key):
                return
            try:
                self._store.fetch(new.key, new.sha256)
            except (CorruptObjectError, VanishedError):
                continue
            return
        raise LakeUnavailableError(f"object {new.key} is removed as often as it is written")

    def _yield_to_rival(self, new: LakeObject) -> None:
        """Remove the object again when a racing writer of this tick has the first name."""
        rivals = self._catalog.rivals_and_days(new)
        if any(found.kind == ObjectKind.TICK and found.key < new.key for found in rivals):
            self._store.remove([new.key])
            raise _tick_taken(new)

    def read_latest(self, table: str, partition: str | None = None) -> pa.Table:
        """Newest rows of a partition, or of every partition (None), as they were written.

        Raises:
            NotFoundError: there is no object.
            CorruptObjectError: an object is damaged; it was moved to quarantine and is named.
        """
        import pyarrow as pa

        _check(table, partition)

        def read() -> pa.Table:
            newest = self._catalog.newest(table, partition)
            if not newest:
                raise self._nothing(table, partition)
            tables = [codec.strip_stamp(self._read_tick(found)) for found in newest]
            if len(tables) == 1:
                return tables[0]
            schema = codec.unify([each.schema for each in tables], table)
            return pa.concat_tables([codec.conform(each, schema) for each in tables])

        return self._retry(read)

    def history(
        self, table: str, since: datetime, until: datetime, partition: str | None = None
    ) -> pa.Table:
        """Rows with since <= tick < until, by tick; see the port."""
        _check(table, partition)
        since, until = validate_tick("since", since), validate_tick("until", until)

        def read() -> pa.Table:
            live = [
                found
                for day in self._catalog.days(table, partition)
                if since.date().isoformat() <= day.rpartition("/")[2] <= until.date().isoformat()
                for found in self._catalog.live(day)
            ]
            columns = live or self._catalog.newest(table, partition)
            if not columns:
                raise self._nothing(table, partition)
            live.sort(key=lambda found: (found.written_at, found.partition))
            schema = self._catalog.schema(table, columns)
            rows = between(history_dataset(self._store, live, schema, ScanWatch()), since, until)
            if all(found.kind == ObjectKind.TICK for found in live):
                return rows
            return rows.sort_by([("tick", "ascending"), ("partition", "ascending")])

        return self._retry(read)

    def objects(self, table: str, partition: str | None = None) -> list[LakeObject]:
        """Live objects, oldest first; empty for an unknown table."""
        _check(table, partition)
        return self._retry(
            lambda: sorted(
                (
                    each
                    for day in self._catalog.days(table, partition)
                    for each in self._catalog.live(day)
                ),
                key=order_of,
            )
        )

    def tables(self) -> list[str]:
        """Tables that have an object, sorted."""
        return [
            table
            for table in self._store.folders("")
            if any(self._catalog.newest_of(day) for day in self._catalog.days(table, None))
        ]

    def compact(self, table: str, partition: str, day: datetime) -> LakeObject | None:
        """Merge the live objects of a UTC day; the day object is visible before they vanish.

        Committed when the byte store's `commit` has returned; what a crash leaves behind is
        superseded, never counted, and removed by the next call for this partition.

        Args:
            table: its name.
            partition: its name.
            day: any moment of the day.

        Returns:
            The new object, or None when the day has fewer than two live objects.

        Raises:
            CorruptObjectError: a source is damaged (now in quarantine); call again for the rest.
        """
        _check(table, partition)
        prefix = day_prefix(table, partition, validate_tick("day", day))
        for folder in self._catalog.days(table, partition):
            self._remove_superseded(folder)

        def merge() -> LakeObject | None:
            listed = self._catalog.listed(prefix)
            live = self._catalog.live_of(listed)
            if len(live) < 2:
                return None
            merged = self._merge(live, self._catalog.names_in(listed))
            self._store.remove(found.key for found in listed if found.key != merged.key)
            return merged

        return self._retry(merge)

    def _merge(self, live: list[LakeObject], names: set[str]) -> LakeObject:
        """Write and commit the day object of some live objects, one source in memory at a time."""
        paths = [self._store.fetch(found.key, found.sha256) for found in live]
        schema = codec.unify([codec.read_schema(path) for path in paths], live[0].table)
        newest = live[-1]
        with self._store.stage() as staged:
            with codec.open_writer(staged, schema, names) as writer:
                for batch in codec.row_groups(paths, schema):
                    writer.write_table(batch, row_group_size=codec.ROW_GROUP_ROWS)
            rows = sum(found.rows for found in live)
            key = object_key(
                newest.table,
                newest.partition,
                newest.written_at,
                rows,
                staged.sha256(),
                ObjectKind.DAY,
            )
            merged = parse_key(key, staged.size_bytes())
            assert merged is not None
            self._commit(staged, merged)
        return merged

    def remove(self, objects: Iterable[LakeObject]) -> int:
        """Delete objects; returns how many were there.

        What a day object supersedes is deleted before it, so that a crash revives nothing.
        """
        keys = []
        for found in objects:
            if found.kind == ObjectKind.DAY:
                self._remove_superseded(found.key.rpartition("/")[0])
            keys.append(found.key)
        return self._store.remove(keys)

    def query(self, sql: str) -> pa.Table:
        """Answer one SELECT; see the port and `resources.lake.query`."""
        tables = self.tables()
        views = [*tables, *(f"{table}{HISTORY_SUFFIX}" for table in tables)]

        def answer() -> pa.Table:
            watch = ScanWatch()
            try:
                return run_query(sql, views, lambda name: self._view(name, watch), self._limits)
            except InvalidInputError as error:
                cause = watch.cause()
                if cause is not None:
                    raise cause from error
                raise

        return self._retry(answer)

    def _view(self, name: str, watch: ScanWatch) -> list[Any]:
        """The Arrow sources of one SQL view, to be united by column name.

        Of a merged day only the last tick is among the newest rows: it is read at once, while
        ticks are scanned where they lie.
        """
        table = name.removesuffix(HISTORY_SUFFIX)
        if name == table:
            newest = self._catalog.newest(table, None)
            live = [found for found in newest if found.kind == ObjectKind.TICK]
            read = [self._read_tick(found) for found in newest if found.kind == ObjectKind.DAY]
        else:
            live, read = self.objects(table), []
        if not live:
            return read
        return [history_dataset(self._store, live, self._catalog.schema(table, live), watch), *read]

    def _remove_superseded(self, folder: str) -> None:
        """Remove what an interrupted compaction left in a day folder."""
        listed = self._catalog.listed(folder)
        if any(found.kind == ObjectKind.DAY for found in listed):
            live = {found.key for found in self._catalog.live_of(listed)}
            self._store.remove(found.key for found in listed if found.key not in live)

    def _read_tick(self, found: LakeObject) -> pa.Table:
        """Stamped rows of the object's (last) tick."""
        path = self._store.fetch(found.key, found.sha256)
        return codec.read_rows(path, found.written_at if found.kind == ObjectKind.DAY else None)

    def _retry(self, read: Callable[[], _T]) -> _T:
        """Read again from a new listing when an object vanished between listing and opening."""
        for _ in range(LISTINGS_MAX):
            try:
                return read()
            except (VanishedError, FileNotFoundError) as error:
                vanished = error
        raise LakeUnavailableError("objects vanish as often as they are listed") from vanished

    def _nothing(self, table: str, partition: str | None) -> NotFoundError:
        """The error for a table or partition without objects."""
        subject = f"table {table}" + ("" if partition is None else f", partition {partition}")
        return NotFoundError(
            f"the lake has no object of {subject}; tables: {', '.join(self.tables()) or 'none'}",
            hint="Materialize the asset of that name first.",
        )


def _check(table: str, partition: str | None) -> None:
    """Refuse names that would leave the lake's folders."""
    validate_table(table)
    if partition is not None:
        validate_partition(partition)


def _tick_taken(new: LakeObject) -> InvalidInputError:
    """The error for a tick that already has other rows."""
    return InvalidInputError(
        "at",
        new.written_at.isoformat(),
        f"a tick of table {new.table}, partition {new.partition} that holds no other rows",
        hint="Objects never change: write the new rows for a later tick.",
    )
