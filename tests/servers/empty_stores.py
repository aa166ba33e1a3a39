"""Empty control stores of this version's schema: migrated once in a process, copied for each test.

The migrations have tests of their own (`tests/resources/test_control_store_migrations.py`); every
other test only wants their outcome, which costs a copy of a small file here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from resources.control_store.opening import open_control_store
from tests.fakes.clock import ManualClock
from tests.servers.postgres import PostgresServer

_TEMPLATE = "stateroom_template"


def sqlite_url(folder: Path, name: str = "control.db") -> str:
    """URL of a new, empty store in a folder that exists."""
    path = folder / name
    path.write_bytes(_sqlite_template())
    return f"sqlite:///{path}"


def postgres_url(server: PostgresServer, name: str) -> str:
    """URL of a new, empty store in a database of its own."""
    return server.create_database(name, template=_postgres_template(server))


@cache
def _sqlite_template() -> bytes:
    with TemporaryDirectory(prefix="stateroom-template-") as folder:
        path = Path(folder) / "control.db"
        open_control_store(f"sqlite:///{path}", clock=ManualClock()).close()
        assert [one.name for one in path.parent.iterdir()] == [path.name]  # no log is left beside
        return path.read_bytes()


@cache
def _postgres_template(server: PostgresServer) -> str:
    open_control_store(server.create_database(_TEMPLATE), clock=ManualClock()).close()
    return _TEMPLATE
