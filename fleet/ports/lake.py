"""What is analysed: immutable objects, one per table, partition and tick."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, Protocol


class LakeObject(NamedTuple):
    """One committed object of the lake."""

    key: str
    table: str
    partition: str
    rows: int
    size_bytes: int
    sha256: str
    written_at: datetime
    """The tick it was written for, UTC; of a merged day, its last tick."""
    kind: str = "tick"
    """`tick`: one write. `day`: the merged ticks of one UTC day."""


class Lake(Protocol):
    """What is analysed: immutable Parquet objects, one per table, partition and tick.

    Rows travel as `pyarrow.Table`, typed `Any` here because `fleet` holds no I/O library.
    """

    def write(self, table: str, partition: str, rows: Any, at: datetime) -> LakeObject:
        """Commit one object atomically; visible as a whole or not at all.

        Writing the same rows for the same tick again changes nothing and succeeds.

        Raises:
            InvalidInputError: a name, the rows or `at` break a rule, or the tick holds other rows.
            LakeUnavailableError: it could not be written (disk full); nothing is visible.
        """
        ...

    def read_latest(self, table: str, partition: str | None = None) -> Any:
        """The newest object of a partition (of every partition: None) as one table.

        Raises:
            NotFoundError: the table has no object.
            CorruptObjectError: an object is damaged; it has been moved to quarantine and is named.
        """
        ...

    def objects(self, table: str, partition: str | None = None) -> list[LakeObject]:
        """Committed objects that count, oldest first (by tick); empty for an unknown table."""
        ...

    def history(
        self, table: str, since: datetime, until: datetime, partition: str | None = None
    ) -> Any:
        """All rows with since <= tick < until, by tick, with columns `partition` and `tick`.

        Raises:
            NotFoundError: the table has no object at all. A range without ticks is no error.
            CorruptObjectError: as for `read_latest`.
        """
        ...

    def tables(self) -> list[str]:
        """Names of all tables, sorted."""
        ...

    def compact(self, table: str, partition: str, day: datetime) -> LakeObject | None:
        """Merge the objects of a finished day into one; None when there is nothing to merge."""
        ...

    def remove(self, objects: Iterable[LakeObject]) -> int:
        """Delete objects; returns how many were there."""
        ...

    def query(self, sql: str) -> Any:
        """Answer one SELECT with DuckDB, as a table.

        `<table>` is the newest object of each partition, `<table>_history` all of them; both have
        the columns `partition` and `tick`.

        Raises:
            InvalidInputError: the SQL does not parse, names no known table, or would write.
            TooLargeError: over the limit on time, memory or rows.
            CorruptObjectError: as for `read_latest`.
        """
        ...
