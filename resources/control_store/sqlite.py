"""SQLite below the control store."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from fleet.errors import CorruptObjectError, StateroomError, StoreUnavailableError
from fleet.ports.clock import Clock
from resources.control_store.dialects import empty_temporary, translate_common
from resources.control_store.times import to_us

_RELAXED = "relaxed"
"""Marks a connection whose commits do not wait for the disk."""
WAL_RETRY_S = 0.005
"""Between two attempts to put a new file into WAL mode."""


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
        engine = sa.create_engine(
            url,
            pool_timeout=self._busy_timeout_s,
            connect_args={"timeout": self._busy_timeout_s},
        )
        sa.event.listen(engine, "connect", self._prepare)
        sa.event.listen(engine, "checkin", self._tighten)
        return engine

    def _prepare(self, connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own idea of transactions is switched off: BEGIN is spelled out below.
        connection.isolation_level = None
        # WAL + FULL: the log is fsynced at each commit, the database file only at checkpoints.
        # The checkpoint interval (pages of 4 KiB) bounds the log near 64 MiB and lets states that
        # are overwritten often reach the database file once.
        connection.execute("PRAGMA page_size=4096").close()
        self._enter_wal(connection)
        for pragma in (
            "synchronous=FULL",
            "temp_store=MEMORY",
            "cache_size=-32768",
            "wal_autocheckpoint=16384",
            "journal_size_limit=67108864",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    def _enter_wal(self, connection: sqlite3.Connection) -> None:
        """Of those that open a new file at the same moment one changes it; the others wait.

        SQLite does not wait here by itself: two that want to change it would wait for each other.
        """
        deadline_s = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL").close()
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > deadline_s:
                    raise
                time.sleep(WAL_RETRY_S)  # the other one is done in milliseconds
            else:
                return

    def begin_read(self, connection: sa.Connection) -> None:
        """A snapshot from the first statement on; never blocks a writer."""
        connection.exec_driver_sql("BEGIN")

    @staticmethod
    def _tighten(connection: sqlite3.Connection | None, record: Any) -> None:
        """Nobody gets a connection from the pool whose commits do not wait for the disk."""
        if record.info.pop(_RELAXED, False) and connection is not None:
            connection.execute("PRAGMA synchronous=FULL").close()

    def begin_write(self, connection: sa.Connection, *, durable: bool = True) -> None:
        """Take the write lock at once: an upgrade in mid-transaction could not wait for it.

        Not durable: the log is synced by the next commit that is, or before the next checkpoint;
        until then a power cut takes whole transactions back, the newest ones, never a part.
        """
        if not durable:
            connection.info[_RELAXED] = True
            connection.exec_driver_sql("PRAGMA synchronous=NORMAL")
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

    def text_unread(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[Any]:
        """The bytes: the driver fails a whole result for one text that is no UTF-8."""
        return sa.cast(column, sa.LargeBinary)

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
        empty_temporary(connection, table)
        marks = ", ".join("?" * len(table.c))
        cursor = connection.connection.cursor()  # SQLAlchemy would cost as much again per row
        try:
            cursor.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows)  # noqa: S608 - a constant
        finally:
            cursor.close()

    def begin_put(self, connection: sa.Connection) -> int:
        """The time; nothing to announce, because there is one writer at a time."""
        return self.now_us(connection)

    def newest_change(self, connection: sa.Connection) -> int:
        """From SQLite's own count, which stays when the log is trimmed."""
        found = connection.exec_driver_sql(
            "SELECT seq FROM sqlite_sequence WHERE name = 'agent_state_changes'"
        ).scalar()
        return int(found or 0)

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
        return translate_common(error, f"control store {self._path}")
