"""What SQLite and PostgreSQL do differently, as one interface, and what both share.

`sqlite.py` and `postgres.py` implement it: connections, locks, the clock, bulk loading, the names
of errors. Nothing else in this package asks which database it talks to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from fleet.errors import InvalidInputError, StateroomError, StoreUnavailableError


class Dialect(Protocol):
    """What the features need to know of the database below them."""

    name: str

    def create_engine(self) -> sa.Engine:
        """An engine whose connections have the durability and time limits of this store."""
        ...

    def begin_read(self, connection: sa.Connection) -> None:
        """Start one consistent look."""
        ...

    def begin_write(self, connection: sa.Connection, *, durable: bool = True) -> None:
        """Start a transaction that will write; if not `durable`, its commit awaits no disk."""
        ...

    def begin_migration(self, connection: sa.Connection) -> None:
        """Start a transaction that no other starter can be in."""
        ...

    def now_us(self, connection: sa.Connection) -> int:
        """The clock by which leases are judged, in microseconds since 1970."""
        ...

    def insert(self, table: sa.Table) -> Any:
        """An INSERT that knows ON CONFLICT."""
        ...

    def one_of(
        self, column: sa.ColumnElement[str], keys: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool]:
        """`column` is one of any number of keys, sent as one parameter (see `keys`)."""
        ...

    def keys(self, keys: Iterable[str]) -> Any:
        """The value of that one parameter."""
        ...

    def text_unread(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[Any]:
        """A text that one damaged row must not keep the others from: bytes where it may be none."""
        ...

    def positional(self) -> sa.Dialect:
        """SQLAlchemy's dialect with parameters by position, for `driver_sql`."""
        ...

    def insert_rows(self, cursor: Any, text: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run an INSERT of the bare driver for many rows, without a round trip for each."""
        ...

    def load_temporary(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]
    ) -> None:
        """Fill a temporary table, visible to this transaction only, with rows without nulls."""
        ...

    def begin_put(self, connection: sa.Connection) -> int:
        """Announce that this transaction appends to a log that cursors read; returns `now_us`."""
        ...

    def newest_change(self, connection: sa.Connection) -> int:
        """The highest number that the change log has given out; 0 before the first."""
        ...

    def settle_change_log(self, connection: sa.Connection) -> None:
        """Wait until every announced append is committed or gone."""
        ...

    def translate(self, error: BaseException) -> StateroomError | None:
        """The error of `fleet.errors` that a library's error stands for; None: a defect."""
        ...


def empty_temporary(connection: sa.Connection, table: sa.Table) -> None:
    """The table lives as long as the connection, so that catalogues do not grow with each use."""
    connection.execute(CreateTable(table, if_not_exists=True))
    connection.execute(table.delete())


def translate_common(error: BaseException, name: str) -> StateroomError | None:
    """The errors that both databases report alike; None for a defect of ours."""
    if isinstance(error, sa.exc.TimeoutError):
        return StoreUnavailableError(
            f"{name}: all connections are in use", hint="Try again; fewer threads at once."
        )
    original = getattr(error, "orig", None) or error
    if isinstance(error, sa.exc.DataError) or isinstance(
        original, (OverflowError, UnicodeError, ValueError)
    ):
        return unfit_value(original)
    return None


def unfit_value(error: BaseException) -> InvalidInputError:
    """A value that no column can hold."""
    return InvalidInputError(
        "value", str(error), "64-bit whole numbers, text without NUL or lone surrogates"
    )
