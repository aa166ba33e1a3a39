"""Where SQLite and PostgreSQL differ: connections, locks, the clock, bulk loading, error names."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg2 as psycopg2_dialect
from sqlalchemy.schema import CreateTable

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    StateroomError,
    StoreUnavailableError,
)
from fleet.ports import Clock
from resources.control_store.times import to_us

_MIGRATION_LOCK = 0x5374_6174_6500
"""Advisory lock of PostgreSQL that a starter holds while it migrates ("State" in ASCII)."""

_CHANGE_LOG_LOCK = 0x5374_6174_6501
"""Shared by every put until its commit; taken alone by readers of the change log."""

_NOW_US = "floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

_VALUES = re.compile(r"VALUES \((?:%s(?:, )?)+\)")
"""The row of placeholders in an INSERT; `execute_values` wants a single one in its place."""


class Dialect(Protocol):
    """What the features need to know of the database below them."""

    name: str

    def create_engine(self) -> sa.Engine:
        """An engine whose connections have the durability and time limits of this store."""
        ...

    def begin_read(self, connection: sa.Connection) -> None:
        """Start one consistent look."""
        ...

    def begin_write(self, connection: sa.Connection) -> None:
        """Start a transaction that will write."""
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
        """Announce that this transaction will append to the change log; returns `now_us`."""
        ...

    def settle_change_log(self, connection: sa.Connection) -> None:
        """Wait until every announced append is committed or gone."""
        ...

    def translate(self, error: BaseException) -> StateroomError | None:
        """The error of `fleet.errors` that a library's error stands for; None: a defect."""
        ...


class SqliteDialect:
    """SQLite in WAL mode: many readers, one writer at a time, fsync before every acknowledgement.

    Leases are judged by the injected clock: all processes that share the file are on one host.
    """

    name = "sqlite"

    def __init__(self, path: Path, clock: Clock, *, busy_timeout_s: float) -> None:
        """Remember the file and how long to wait for another writer."""
        self._path = path
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s

    def create_engine(self) -> sa.Engine:
        """An engine on the file, which is created with its folder when missing."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailableError(
                f"control store {self._path}: its folder cannot be made ({error})",
                hint="Check the path in control_store.url and the rights on it.",
            ) from error
        url = sa.URL.create("sqlite", database=str(self._path))
        engine = sa.create_engine(url, connect_args={"timeout": self._busy_timeout_s})
        sa.event.listen(engine, "connect", self._prepare)
        return engine

    def _prepare(self, connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own idea of transactions is switched off: BEGIN is spelled out below.
        connection.isolation_level = None
        # WAL + FULL: the log is fsynced at each commit, the database file only at checkpoints.
        # The checkpoint interval (pages of 4 KiB) bounds the log near 64 MiB and lets states that
        # are overwritten often reach the database file once.
        for pragma in (
            "page_size=4096",
            "journal_mode=WAL",
            "synchronous=FULL",
            "temp_store=MEMORY",
            "cache_size=-32768",
            "wal_autocheckpoint=16384",
            "journal_size_limit=67108864",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    def begin_read(self, connection: sa.Connection) -> None:
        """A snapshot from the first statement on; never blocks a writer."""
        connection.exec_driver_sql("BEGIN")

    def begin_write(self, connection: sa.Connection) -> None:
        """Take the write lock at once: an upgrade in mid-transaction could not wait for it."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def begin_migration(self, connection: sa.Connection) -> None:
        """The write lock is exclusive already, and DDL is transactional."""
        self.begin_write(connection)

    def now_us(self, _connection: sa.Connection) -> int:
        """The injected clock."""
        return to_us(self._clock.now())

    def insert(self, table: sa.Table) -> sqlite.Insert:
        """SQLite's INSERT."""
        return sqlite.insert(table)

    def one_of(
        self, column: sa.ColumnElement[str], keys: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool]:
        """Keys travel as one JSON array."""
        return column.in_(sa.select(sa.func.json_each(keys).table_valued("value").c.value))

    def keys(self, keys: Iterable[str]) -> str:
        """A JSON array."""
        return json.dumps(list(keys))

    def positional(self) -> sa.Dialect:
        """Question marks."""
        return sqlite.dialect(paramstyle="qmark")

    def insert_rows(self, cursor: Any, text: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """SQLite is in this process: a statement per row has no round trip."""
        cursor.executemany(text, rows)

    def load_temporary(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]
    ) -> None:
        """In memory (`temp_store`)."""
        _empty_temporary(connection, table)
        connection.execute(
            table.insert(), [dict(zip(table.c.keys(), row, strict=True)) for row in rows]
        )

    def begin_put(self, connection: sa.Connection) -> int:
        """The time; nothing to announce, because there is one writer at a time."""
        return self.now_us(connection)

    def settle_change_log(self, connection: sa.Connection) -> None:
        """Nothing to do: numbers are given out in commit order."""

    def translate(self, error: BaseException) -> StateroomError | None:
        """By SQLite's message, the only thing that tells its errors apart everywhere."""
        text = str(getattr(error, "orig", None) or error)
        if "locked" in text or "busy" in text:
            return StoreUnavailableError(
                f"control store {self._path}: locked for {self._busy_timeout_s:g} s ({text})",
                hint="Another process holds a long transaction; try again.",
            )
        if "full" in text:
            return StoreUnavailableError(
                f"control store {self._path}: disk full ({text}); nothing was stored",
                hint=f"Free space on the disk of {self._path.parent}, then try again.",
            )
        if "malformed" in text or "not a database" in text:
            return CorruptObjectError(
                f"control store {self._path}: {text}",
                hint="Stop everything and restore the file from a backup.",
            )
        if isinstance(error, (sa.exc.OperationalError, sqlite3.OperationalError)):
            return StoreUnavailableError(
                f"control store {self._path}: {text}",
                hint="Check that the folder exists and may be written, and the disk's health.",
            )
        return _translate_common(error, f"control store {self._path}")


class PostgresDialect:
    """PostgreSQL: row locks, its own clock, COPY for bulk loads."""

    name = "postgresql"

    def __init__(self, url: sa.URL, *, busy_timeout_s: float, pool_size: int) -> None:
        """Remember where the server is and how long to wait for locks."""
        self._url = url.set(drivername="postgresql+psycopg2")
        self._busy_timeout_s = busy_timeout_s
        self._pool_size = pool_size
        self._shown = f"control store {url.render_as_string(hide_password=True)}"

    def create_engine(self) -> sa.Engine:
        """Connections are checked before use; a dead server is noticed within seconds."""
        wait_ms = int(self._busy_timeout_s * 1000)
        options = f"-c lock_timeout={wait_ms} -c idle_in_transaction_session_timeout=60000"
        engine = sa.create_engine(
            self._url,
            pool_size=self._pool_size,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 5, "options": options},
        )
        sa.event.listen(engine, "connect", self._prepare)
        return engine

    def _prepare(self, connection: Any, _record: object) -> None:
        # An acknowledged put must survive a power cut, whatever the server's default says; the
        # stronger settings (remote_write, remote_apply) are left as they are.
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            if cursor.fetchone()[0] == "off":
                cursor.execute("SET synchronous_commit TO on")
        connection.commit()

    def begin_read(self, connection: sa.Connection) -> None:
        """One snapshot for all statements of the transaction."""
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def begin_write(self, connection: sa.Connection) -> None:
        """READ COMMITTED: each statement sees what the locks of the one before waited for."""

    def begin_migration(self, connection: sa.Connection) -> None:
        """Starters queue here until the migration before them is committed."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))

    def now_us(self, connection: sa.Connection) -> int:
        """The server's clock: one for all hosts."""
        return int(connection.exec_driver_sql(f"SELECT {_NOW_US}").scalar_one())

    def insert(self, table: sa.Table) -> postgresql.Insert:
        """PostgreSQL's INSERT."""
        return postgresql.insert(table)

    def one_of(
        self, column: sa.ColumnElement[str], keys: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool]:
        """Keys travel as one array."""
        return column == sa.any_(sa.cast(keys, postgresql.ARRAY(sa.Text)))

    def keys(self, keys: Iterable[str]) -> list[str]:
        """The driver turns a list into an array."""
        return list(keys)

    def positional(self) -> sa.Dialect:
        """`%s`."""
        return psycopg2_dialect.dialect(paramstyle="format")  # type: ignore[no-untyped-call]

    def insert_rows(self, cursor: Any, text: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """One statement for up to 1,000 rows."""
        from psycopg2.extras import execute_values

        execute_values(cursor, _VALUES.sub("VALUES %s", text), rows, page_size=1000)

    def load_temporary(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]
    ) -> None:
        """COPY, which takes 25,000 rows in a tenth of the time of INSERT."""
        _empty_temporary(connection, table)
        text = io.StringIO(newline="")
        csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
        text.seek(0)
        driver = connection.connection.cursor()
        try:
            driver.copy_expert(f"COPY {table.name} FROM STDIN WITH (FORMAT csv)", text)
        finally:
            driver.close()

    def begin_put(self, connection: sa.Connection) -> int:
        """Held until commit. Numbers are drawn after this, so a settled log has no late ones."""
        row = connection.exec_driver_sql(
            f"SELECT {_NOW_US}, pg_advisory_xact_lock_shared({_CHANGE_LOG_LOCK})"
        ).one()
        return int(row[0])

    def settle_change_log(self, connection: sa.Connection) -> None:
        """Wait for the puts in flight.

        Without this a reader's cursor could pass a low number whose transaction commits a moment
        later, and a backup would never see that change.
        """
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CHANGE_LOG_LOCK)))

    def translate(self, error: BaseException) -> StateroomError | None:
        """By SQLSTATE class where there is one."""
        import psycopg2

        original = getattr(error, "orig", None) or error
        state = getattr(original, "pgcode", None) or ""
        text = " ".join(str(original).split())
        if state == "53100":
            return StoreUnavailableError(
                f"{self._shown}: disk full ({text}); nothing was stored",
                hint="Free space on the database server, then try again.",
            )
        if isinstance(original, (psycopg2.OperationalError, psycopg2.InterfaceError)):
            return StoreUnavailableError(
                f"{self._shown}: {text}", hint="Check that the server runs and can be reached."
            )
        return _translate_common(error, self._shown)


def _empty_temporary(connection: sa.Connection, table: sa.Table) -> None:
    """The table lives as long as the connection, so that catalogues do not grow with each use."""
    connection.execute(CreateTable(table, if_not_exists=True))
    connection.execute(table.delete())


def _translate_common(error: BaseException, name: str) -> StateroomError | None:
    if isinstance(error, sa.exc.TimeoutError):
        return StoreUnavailableError(
            f"{name}: all connections are in use", hint="Try again; fewer threads at once."
        )
    original = getattr(error, "orig", None) or error
    if isinstance(error, sa.exc.DataError) or isinstance(
        original, (OverflowError, UnicodeError, ValueError)
    ):
        return InvalidInputError(
            "value", str(original), "64-bit whole numbers, text without NUL or lone surrogates"
        )
    return None
