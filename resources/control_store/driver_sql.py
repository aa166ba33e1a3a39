"""Statements of the hot paths: written in SQLAlchemy Core, compiled once, run by the bare driver.

Building and caching a Core statement costs as much as a durable SQLite commit (0.7 of 1.0 ms for
a single put); the paths taken by every heartbeat and every put skip it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from resources.control_store.dialects import Dialect

_ROWS = 1000
"""Rows that `iterate` holds at a time."""


class DriverStatement:
    """One statement for both databases; its text is made at the first use on each."""

    def __init__(
        self, build: Callable[[Dialect], sa.ClauseElement], columns: Sequence[str] | None = None
    ) -> None:
        """Remember how to build it.

        Args:
            build: makes the Core statement; its values are named `sa.bindparam`s.
            columns: of an INSERT: the columns that rows hold, in order.
        """
        self._build = build
        self._columns = columns
        self._compiled: dict[str, tuple[str, list[str]]] = {}

    def rows(
        self, dialect: Dialect, connection: sa.Connection, **values: Any
    ) -> list[tuple[Any, ...]]:
        """Run it with named values and return all rows."""
        text, names = self._text(dialect)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(text, [values[name] for name in names])
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def iterate(
        self, dialect: Dialect, connection: sa.Connection, **values: Any
    ) -> Iterator[tuple[Any, ...]]:
        """Run it with named values and hand out row by row; to be used up inside the block."""
        text, names = self._text(dialect)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(text, [values[name] for name in names])
            while rows := cursor.fetchmany(_ROWS):
                yield from rows
        finally:
            cursor.close()

    def run(self, dialect: Dialect, connection: sa.Connection, **values: Any) -> int:
        """Run it with named values and return how many rows it touched."""
        text, names = self._text(dialect)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(text, [values[name] for name in names])
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def insert_rows(
        self, dialect: Dialect, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Run an INSERT for many rows, each a tuple in the order of `columns`."""
        text, names = self._text(dialect)
        assert names == list(self._columns or ()), "rows are in the order of the columns"
        cursor = connection.connection.cursor()
        try:
            dialect.insert_rows(cursor, text, rows)
        finally:
            cursor.close()

    def _text(self, dialect: Dialect) -> tuple[str, list[str]]:
        known = self._compiled.get(dialect.name)
        if known is None:
            compiled = self._build(dialect).compile(
                dialect=dialect.positional(), column_keys=self._columns
            )
            assert isinstance(compiled, SQLCompiler)
            known = (str(compiled), list(compiled.positiontup or ()))
            self._compiled[dialect.name] = known
        return known
