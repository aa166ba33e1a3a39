"""Stores for the contract suites: the fake, SQLite and PostgreSQL, opened once per module."""

from collections.abc import Iterator

import pytest

from fleet.ports.control_store import ControlStore
from tests.contracts.store_harness import MemoryHarness, SqlHarness, StoreHarness, sqlite_harness
from tests.servers.empty_stores import postgres_url
from tests.servers.postgres import PostgresServer


def _open(kind: str, request: pytest.FixtureRequest) -> StoreHarness:
    if kind == "memory":
        return MemoryHarness()
    if kind == "sqlite":
        return sqlite_harness(request.getfixturevalue("tmp_path_factory").mktemp("store"))
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = request.module.__name__.replace(".", "_")
    return SqlHarness(postgres_url(server, name), exact_times=False)


POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


@pytest.fixture(scope="module", params=["memory", "sqlite", POSTGRES])
def harness(request: pytest.FixtureRequest) -> Iterator[StoreHarness]:
    """Each store in turn; a test that uses it directly empties it first."""
    opened = _open(request.param, request)
    yield opened
    opened.close()


@pytest.fixture
def store(harness: StoreHarness) -> ControlStore:
    """An empty store."""
    harness.clear()
    return harness.store
