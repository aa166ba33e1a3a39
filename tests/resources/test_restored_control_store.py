"""A control store that was put back is never mistaken for the one that a backup knew.

The same agents write the same bytes again, so that change numbers, versions and digests of the
store that was put back catch up with those that were lost.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from fleet.agents import Placement, StatePut
from fleet.reports import AgentDeclaration
from fleet.state_cuts import ChangeCursor, StateListing
from resources.control_store.opening import open_control_store
from resources.control_store.store import SqlControlStore
from tests.fakes.clock import ManualClock
from tests.servers.empty_stores import postgres_url, sqlite_url
from tests.servers.postgres import PostgresServer

AGENTS = ("a", "b", "c")


class CopiedStore:
    """A store that can be copied and put back while nobody has it open."""

    def __init__(self, url: str) -> None:
        """Remember where it is."""
        self.url = url

    @contextmanager
    def opened(self) -> Iterator[SqlControlStore]:
        """Open, as one process after the other does."""
        store = open_control_store(self.url, clock=ManualClock())
        try:
            yield store
        finally:
            store.close()

    def copy(self) -> None:
        """Take a copy."""
        raise AssertionError(self.url)

    def put_back(self) -> None:
        """Replace the store by the copy."""
        raise AssertionError(self.url)

    def write(self, *agent_ids: str) -> None:
        """The next version of each; bytes say the version, time stands still."""
        with self.opened() as store:
            for agent_id in agent_ids:
                state = store.state(agent_id)
                version = state.version if state else 0
                put = StatePut(agent_id, 1, version, f"{agent_id} {version}".encode())
                assert store.put_states([put])[0].error is None

    def cut(self, since: ChangeCursor | None) -> StateListing:
        """Take a cut."""
        with self.opened() as store:
            return store.cut_states("net", since)

    def begin(self) -> None:
        """Agents with a first version each."""
        with self.opened() as store:
            store.declare_agents([AgentDeclaration(one, "net", "w", "eu", 1, 1) for one in AGENTS])
            at = ManualClock().now()
            store.place_agents(
                [Placement(one, "net", "w", "n", "eu", 0, 1, "running", "", at) for one in AGENTS]
            )
        self.write(*AGENTS)


class SqliteCopies(CopiedStore):
    """Files."""

    def __init__(self, folder: Path) -> None:
        """A new file."""
        self.live, self.kept = folder / "live", folder / "kept"
        self.live.mkdir()
        super().__init__(sqlite_url(self.live))

    def copy(self) -> None:
        """The folder, with a log if there is one."""
        shutil.rmtree(self.kept, ignore_errors=True)
        shutil.copytree(self.live, self.kept)

    def put_back(self) -> None:
        """Into the same folder."""
        shutil.rmtree(self.live)
        shutil.copytree(self.kept, self.live)


class PostgresCopies(CopiedStore):
    """Databases made from one another, physically."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        """A new database."""
        self.server, self.name = server, name
        super().__init__(postgres_url(server, name))

    def _run(self, *statements: str) -> None:
        connection = psycopg2.connect(self.server.url("postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()

    def copy(self) -> None:
        """Under another name."""
        self._run(
            f'DROP DATABASE IF EXISTS "{self.name}_kept"',
            f'CREATE DATABASE "{self.name}_kept" TEMPLATE "{self.name}"',
        )

    def put_back(self) -> None:
        """Under the old name."""
        self._run(
            f'DROP DATABASE "{self.name}"',
            f'CREATE DATABASE "{self.name}" TEMPLATE "{self.name}_kept"',
        )


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> CopiedStore:
    """Each kind."""
    if request.param == "sqlite":
        store: CopiedStore = SqliteCopies(tmp_path)
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        store = PostgresCopies(server, f"copied_{abs(hash(tmp_path))}")
    store.begin()
    return store


def test_a_store_put_back_to_before_the_cut_is_noticed_even_when_it_has_caught_up(
    copied: CopiedStore,
) -> None:
    """Entry, version and digest at the cursor are the same again; the states are not."""
    first = copied.cut(None).cursor
    copied.copy()
    copied.write("a", "b")
    lost = copied.cut(first)
    assert list(lost.states.agent_ids) == ["a", "b"]
    copied.put_back()
    copied.write("c", "b")
    found = copied.cut(lost.cursor)
    assert "was put back" in found.broken
    assert found.cursor.change_id == lost.cursor.change_id
    assert list(found.states.versions) == [1, 2, 2]


def test_a_store_put_back_to_after_the_cut_is_still_the_same(copied: CopiedStore) -> None:
    """What was lost had never been in a cut, so nothing has to be compared."""
    cut = copied.cut(None)
    copied.write("a")
    copied.copy()
    copied.write("a", "b")
    copied.put_back()
    copied.write("c")
    found = copied.cut(cut.cursor)
    assert (found.broken, list(found.states.agent_ids)) == ("", ["a", "c"])


def test_of_two_copies_each_knows_its_own_cuts_only(copied: CopiedStore) -> None:
    """A copy that lives on elsewhere goes on from what it has in common, and from nothing else."""
    common = copied.cut(None).cursor
    copied.copy()
    copied.write("a")
    mine = copied.cut(common)
    assert mine.broken == ""
    copied.put_back()
    copied.write("b")
    theirs = copied.cut(common)
    assert (theirs.broken, list(theirs.states.agent_ids)) == ("", ["b"])
    assert "another one" in copied.cut(mine.cursor).broken
