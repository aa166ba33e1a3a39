"""Opens the control store behind a URL and brings its schema up to date."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from fleet.errors import InvalidInputError
from fleet.ports.clock import Clock
from resources.control_store.database import Database
from resources.control_store.dialects import Dialect
from resources.control_store.migrating import migrate
from resources.control_store.postgres import PostgresDialect
from resources.control_store.sqlite import SqliteDialect
from resources.control_store.store import SqlControlStore

BUSY_TIMEOUT_S = 10.0
"""How long a transaction waits for others; a whole-fleet placement takes 1.5 s at most."""


def open_control_store(
    url: str, *, clock: Clock, busy_timeout_s: float = BUSY_TIMEOUT_S, pool_size: int = 5
) -> SqlControlStore:
    """Open (and when needed create or migrate) the control store.

    Args:
        url: `sqlite:///path/to/control.db` or `postgresql://user:password@host/database`.
        clock: judges leases on SQLite; PostgreSQL judges them by its own.
        busy_timeout_s: how long a call waits for locks before `StoreUnavailableError`.
        pool_size: connections kept open per process (PostgreSQL).

    Returns:
        The store; the caller closes it.

    Raises:
        InvalidInputError: the URL is none of the two kinds.
        SchemaMismatchError: a newer Stateroom has written the store.
        StoreUnavailableError: it cannot be reached, opened or locked.
    """
    database = Database(_dialect(url, clock, busy_timeout_s, pool_size))
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return SqlControlStore(database)


def _dialect(url: str, clock: Clock, busy_timeout_s: float, pool_size: int) -> Dialect:
    allowed = "sqlite:///<path> or postgresql://<user>:<password>@<host>/<database>"
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise InvalidInputError("control_store.url", "(not a URL)", allowed) from error
    shown = parsed.render_as_string(hide_password=True)
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return SqliteDialect(Path(parsed.database), clock, busy_timeout_s=busy_timeout_s)
    if backend == "postgresql" and parsed.database:
        return PostgresDialect(parsed, busy_timeout_s=busy_timeout_s, pool_size=pool_size)
    raise InvalidInputError("control_store.url", shown, allowed)
