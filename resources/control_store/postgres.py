"""PostgreSQL below the control store."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import psycopg2 as psycopg2_dialect

from fleet.errors import StateroomError, StoreUnavailableError
from resources.control_store.dialects import empty_temporary, translate_common, unfit_value

_MIGRATION_LOCK = 0x5374_6174_6500
"""Advisory lock of PostgreSQL that a starter holds while it migrates ("State" in ASCII)."""

_CHANGE_LOG_LOCK = 0x5374_6174_6501
"""Shared by every put and move until its commit; taken alone by readers of their logs."""

_NOW_US = "floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

_IDLE_TOO_LONG = "25P03"
"""SQLSTATE of a transaction that the server has ended because its client stood still."""

_BULK_MEMORY = "64MB"
"""Of one transaction with a bulk load: 25,000 rows are joined and sorted without files. The
server's default (4 MB) sorts them on disk; SET LOCAL ends with the transaction."""

_ESCAPED = re.compile(r"[\\\r]")
"""What COPY's text format takes for something else, beside the marks of columns and rows."""

_VALUES = re.compile(r"VALUES \((?:%s(?:, )?)+\)")
"""The row of placeholders in an INSERT; `execute_values` wants a single one in its place."""


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
        # A client that is frozen inside a transaction keeps its row locks. The server ends it
        # before those who wait for them give up: a node that hangs stops no failover.
        idle_ms = wait_ms // 2
        options = f"-c lock_timeout={wait_ms} -c idle_in_transaction_session_timeout={idle_ms}"
        engine = sa.create_engine(
            self._url,
            pool_size=self._pool_size,
            pool_timeout=self._busy_timeout_s,
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

    def begin_write(self, connection: sa.Connection, *, durable: bool = True) -> None:
        """READ COMMITTED: each statement sees what the locks of the one before waited for.

        A later commit that waits for the log to reach the disk waits for all before it.
        """
        if not durable:
            connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")

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

    def text_unread(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[Any]:
        """The text: the server takes nothing else."""
        return column

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
        empty_temporary(connection, table)
        connection.exec_driver_sql(f"SET LOCAL work_mem = '{_BULK_MEMORY}'")
        text, form = _copied(rows, len(table.c))
        driver = connection.connection.cursor()
        try:
            driver.copy_expert(f"COPY {table.name} FROM STDIN WITH (FORMAT {form})", text)
        finally:
            driver.close()

    def begin_put(self, connection: sa.Connection) -> int:
        """Held until commit. Numbers are drawn after this, so a settled log has no late ones."""
        row = connection.exec_driver_sql(
            f"SELECT {_NOW_US}, pg_advisory_xact_lock_shared({_CHANGE_LOG_LOCK})"
        ).one()
        return int(row[0])

    def newest_change(self, connection: sa.Connection) -> int:
        """From the sequence: numbers of puts in flight count, those of trimmed entries too."""
        return int(
            connection.exec_driver_sql(
                "SELECT CASE WHEN is_called THEN last_value ELSE 0 END "
                "FROM agent_state_changes_change_id_seq"
            ).scalar_one()
        )

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
        if state == _IDLE_TOO_LONG or isinstance(
            original, (psycopg2.OperationalError, psycopg2.InterfaceError)
        ):
            return StoreUnavailableError(
                f"{self._shown}: {text}", hint="Check that the server runs and can be reached."
            )
        if isinstance(original, psycopg2.DataError):  # of the bare driver (`driver_sql`)
            return unfit_value(original)
        return translate_common(error, self._shown)


def _copied(rows: Sequence[Sequence[Any]], columns: int) -> tuple[io.StringIO, str]:
    """Rows as COPY reads them, and in which format: plain text where nothing needs an escape.

    Text is half as dear to write as CSV, and cheaper for the server to read.
    """
    plain = "".join(["\t".join(map(str, row)) + "\n" for row in rows])
    marks = plain.count("\t"), plain.count("\n")
    if marks == ((columns - 1) * len(rows), len(rows)) and not _ESCAPED.search(plain):
        return io.StringIO(plain, newline=""), "text"
    quoted = io.StringIO(newline="")
    csv.writer(quoted, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    quoted.seek(0)
    return quoted, "csv"
