"""One SELECT over the lake's tables, in a DuckDB that can reach nothing else.

DuckDB 2 takes `WITH x AS (COPY ... TO 'file') SELECT ...` for a SELECT, so the kind of statement is
no protection. This is: the tables are Arrow datasets that Python scans, so DuckDB needs no files;
its access to files, network and extensions is switched off and the configuration locked before the
statement runs. Everything lives in memory and ends with the call.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.errors import InvalidInputError, TooLargeError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


class QueryLimits(NamedTuple):
    """What one query may take."""

    timeout_s: float = 30.0
    memory_bytes: int = 1024 * 1024 * 1024
    rows_max: int = 1_000_000
    """Rows of the answer; more belong into an asset."""
    threads: int = 2


def run_query(
    sql: str, known: Collection[str], load: Callable[[str], list[Any]], limits: QueryLimits
) -> pa.Table:
    """Answer one SELECT.

    Args:
        sql: one statement.
        known: names of the views that exist.
        load: Arrow tables or datasets of one view, to be united by column name; called only for
            views that the statement names.
        limits: time, memory and rows.

    Raises:
        InvalidInputError: not one SELECT, an unknown table, or DuckDB refuses it; with DuckDB's
            message, which shows the position.
        TooLargeError: over a limit.
    """
    import duckdb

    with duckdb.connect(":memory:", config=_settings(limits)) as connection:
        connection.execute("SET TimeZone = 'UTC'")  # loads ICU, so it must come first
        connection.execute("SET enable_external_access = false")
        for name in named_views(connection, sql, known):
            _create_view(connection, name, load(name))
        connection.execute("SET lock_configuration = true")
        return _run(connection, sql, limits)


def named_views(
    connection: duckdb.DuckDBPyConnection, sql: str, known: Collection[str]
) -> list[str]:
    """The views that a statement names, sorted.

    Raises:
        InvalidInputError: it is not one SELECT, does not parse, or names a table that is not known.
    """
    tree = _parse(connection, sql)
    lower = {name.lower(): name for name in known}
    views: set[str] = set()
    defined = {entry["key"].lower() for node in _nodes(tree) for entry in _ctes(node)}
    for node in _nodes(tree):
        if node.get("type") == "SHOW_REF" and node.get("show_type") == "SHOW_SPECIAL":
            raise _unknown("SHOW", known)
        if node.get("type") == "BASE_TABLE":
            name = node["table_name"].lower()
            if name in lower:
                views.add(lower[name])
            elif name not in defined and not node["schema_name"]:
                raise _unknown(node["table_name"], known)
    return sorted(views)


def _parse(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """Syntax tree of one SELECT, as DuckDB prints it.

    `get_table_names` would be shorter, but it binds: a JOIN ... USING over tables that do not exist
    yet fails there.
    """
    import duckdb

    if any("\ud800" <= character <= "\udfff" for character in sql):
        raise InvalidInputError("sql", sql, "text that UTF-8 can encode")
    try:
        kinds = [each.type.name for each in connection.extract_statements(sql)]
        if kinds != ["SELECT"]:
            found = ", ".join(kinds) or "nothing"
            raise InvalidInputError("sql", sql, f"one SELECT statement (found: {found})")
        answer = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    except duckdb.Error as error:
        raise _refused(sql, error) from error
    tree = json.loads(answer[0][0])
    if tree["error"]:
        raise InvalidInputError("sql", sql, f"one SELECT statement ({tree['error_message']})")
    return tree


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _ctes(node: dict[str, Any]) -> list[dict[str, Any]]:
    """What a node's WITH defines."""
    found: list[dict[str, Any]] = node.get("cte_map", {}).get("map", [])
    return found


def _unknown(name: str, known: Collection[str]) -> InvalidInputError:
    """The error for a table that does not exist, with the nearest name."""
    near = get_close_matches(name.lower(), known, n=1)
    tables = [each for each in sorted(known) if not each.endswith("_history")]
    return InvalidInputError(
        "table",
        name,
        f"{', '.join(tables) or 'none: the lake is empty'}; each also with '_history'",
        hint=f"Did you mean {near[0]}?" if near else "`SELECT * FROM <table> LIMIT 5` shows one.",
    )


def _settings(limits: QueryLimits) -> dict[str, Any]:
    """Bounds, no spilling to disk, no Python variables as tables."""
    return {
        "python_enable_replacements": False,
        "temp_directory": "",
        "memory_limit": f"{limits.memory_bytes}B",
        "threads": limits.threads,
    }


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, sources: list[Any]) -> None:
    """One view over Arrow sources, by column name. Names come from `validate_table`."""
    parts = []
    for index, source in enumerate(sources):
        connection.register(f"lake {index} {name}", source)
        parts.append(f'SELECT * FROM "lake {index} {name}"')  # noqa: S608  validated name
    connection.execute(f'CREATE VIEW "{name}" AS {" UNION ALL BY NAME ".join(parts)}')


def _run(connection: duckdb.DuckDBPyConnection, sql: str, limits: QueryLimits) -> pa.Table:
    """Run the statement; a timer interrupts it at the time limit."""
    import duckdb
    import pyarrow as pa

    timer = threading.Timer(limits.timeout_s, connection.interrupt)
    timer.start()
    try:
        reader = connection.sql(sql).to_arrow_reader(65_536)
        batches, rows = [], 0
        for batch in reader:
            batches.append(batch)
            rows += batch.num_rows
            if rows > limits.rows_max:
                raise TooLargeError(
                    f"sql: the answer has more than {limits.rows_max} rows",
                    hint="Aggregate, or add LIMIT.",
                )
        return pa.Table.from_batches(batches, reader.schema)
    except duckdb.InterruptException as error:
        raise TooLargeError(
            f"sql: not answered within {limits.timeout_s:g} s",
            hint="Restrict `tick` or `partition`, or aggregate less.",
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise TooLargeError(
            f"sql: needs more than {limits.memory_bytes} bytes of memory",
            hint="Restrict `tick` or `partition`, or aggregate before joining.",
        ) from error
    except duckdb.Error as error:
        raise _refused(sql, _with_position(connection, sql, error)) from error
    finally:
        timer.cancel()
        timer.join()


def _with_position(
    connection: duckdb.DuckDBPyConnection, sql: str, error: duckdb.Error
) -> duckdb.Error:
    """The same error with line and caret, which `sql()` leaves out of a binder's message."""
    import duckdb

    if isinstance(error, duckdb.BinderException | duckdb.CatalogException):
        try:
            connection.execute(sql)
        except (duckdb.BinderException, duckdb.CatalogException) as positioned:
            return positioned
    return error


def _refused(sql: str, error: Exception) -> InvalidInputError:
    """DuckDB's refusal as the house's error."""
    return InvalidInputError("sql", sql, f"a SELECT that DuckDB accepts; it says: {error}")
