"""Transactions of the control store: `read` and `write` blocks with translated errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from resources.control_store.dialects import Dialect

_TRIM_ROWS = 5000
"""Rows per transaction of `trim`: about 20 ms."""


class Database:
    """An engine with its dialect. Safe for threads; each block uses a connection of its own."""

    def __init__(self, dialect: Dialect) -> None:
        """Create the engine; the first connection is made by the first block."""
        self.dialect = dialect
        self._engine = dialect.create_engine()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent look; several statements see the same moment."""
        with self._translated(), self._engine.connect() as connection:
            self.dialect.begin_read(connection)
            yield connection
            connection.rollback()

    @contextmanager
    def settled_read(self) -> Iterator[sa.Connection]:
        """A look at the change log after every put that was in flight."""
        with self._translated(), self._engine.connect() as connection:
            self.dialect.settle_change_log(connection)
            yield connection
            connection.rollback()

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """One transaction, durable when the block has ended, without effect when it raised.

        Not `durable`: it is durable with the next commit that is, of any connection.
        """
        with self._translated(), self._engine.begin() as connection:
            self.dialect.begin_write(connection, durable=durable)
            yield connection

    @contextmanager
    def settled_write(self) -> Iterator[sa.Connection]:
        """Like `write`, after every put that was in flight, and before any that comes."""
        with self.write() as connection:
            self.dialect.settle_change_log(connection)
            yield connection

    @contextmanager
    def migration(self) -> Iterator[sa.Connection]:
        """Like `write`, for one starter at a time."""
        with self._translated(), self._engine.begin() as connection:
            self.dialect.begin_migration(connection)
            yield connection

    def one_of(self, column: sa.ColumnElement[str], keys: Iterable[str]) -> Any:
        """`column` is one of any number of keys."""
        return self.dialect.one_of(column, sa.literal(self.dialect.keys(keys)))

    def upsert(self, table: sa.Table) -> Any:
        """INSERT that replaces every other column of a row whose primary key is there."""
        return upsert(self.dialect, table)

    def insert_new(self, table: sa.Table) -> Any:
        """INSERT that leaves rows alone which are there."""
        return self.dialect.insert(table).on_conflict_do_nothing()

    def close(self) -> None:
        """Close every connection that no block is using."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            known = self.dialect.translate(error) if _is_foreign(error) else None
            if known is None:
                raise
            raise known from error


def _is_foreign(error: Exception) -> bool:
    """Whether the error comes from SQLAlchemy, the driver, or the conversion of a value."""
    module = type(error).__module__.partition(".")[0]
    return module in {"sqlalchemy", "sqlite3", "psycopg2"} or isinstance(
        error, (OverflowError, UnicodeError)
    )


def upsert(dialect: Dialect, table: sa.Table) -> Any:
    """INSERT that replaces every other column of a row whose primary key is there."""
    statement = dialect.insert(table)
    keys = [column.name for column in table.primary_key]
    replaced = {
        column.name: statement.excluded[column.name]
        for column in table.c
        if column.name not in keys
    }
    return statement.on_conflict_do_update(index_elements=keys, set_=replaced)


def trim(
    database: Database,
    column: sa.Column[int],
    up_to: int,
    *,
    ordered_by: sa.Column[int] | None = None,
) -> int:
    """Delete the rows whose `column` is at most `up_to`, and say how many there were.

    Args:
        database: what is trimmed.
        column: of the table, indexed.
        up_to: its highest value that goes.
        ordered_by: instead of an index on `column`, one whose order is nearly that of `column`:
            old rows are found at its beginning.

    In several transactions, each of a fraction of a second, so that writers are not kept waiting;
    a crash in between leaves the rest for the next call.
    """
    table = column.table
    assert isinstance(table, sa.Table)
    key = next(iter(table.primary_key))
    order = column if ordered_by is None else ordered_by
    oldest = sa.select(key).where(column <= up_to).order_by(order).limit(_TRIM_ROWS)
    removed = 0
    while True:
        with database.write() as connection:
            count = connection.execute(table.delete().where(key.in_(oldest))).rowcount
        removed += count
        if count < _TRIM_ROWS:
            return removed


class Feature:
    """What every part of the store has: its database."""

    def __init__(self, database: Database) -> None:
        """Use an opened, migrated database."""
        self._database = database
