"""Processes that are frozen inside a transaction: what they keep from others, and until when."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.agents import Placement
from fleet.errors import StoreUnavailableError
from fleet.leases import LEADER_LEASE
from fleet.reports import AgentDeclaration
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from tests.servers.empty_stores import postgres_url, sqlite_url
from tests.servers.postgres import PostgresServer

AT = datetime(2026, 3, 1, tzinfo=UTC)

WRITER = """
import sys
import sqlalchemy as sa
from fleet.errors import StoreUnavailableError
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.control_store.schema import leases, placements

store = open_control_store(sys.argv[1], clock=SystemClock(), busy_timeout_s=2.0)
try:
    with store._database.write() as connection:
        connection.execute(sa.select(placements).with_for_update()).all()
        connection.execute(sa.select(leases).with_for_update()).all()
        print("locked", flush=True)
        sys.stdin.readline()  # SIGSTOP meets it here
        connection.execute(sa.select(placements)).all()
except StoreUnavailableError as error:
    print("refused", error, flush=True)
else:
    print("committed", flush=True)
store.close()
"""


def frozen_writer(
    start_python: Callable[..., subprocess.Popen[str]], url: str
) -> subprocess.Popen[str]:
    """A process that stands still with everything locked."""
    process = start_python(WRITER, url)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n", process.communicate()
    os.kill(process.pid, signal.SIGSTOP)
    return process


@pytest.mark.postgres
def test_on_postgresql_a_frozen_writer_delays_a_move_and_does_not_stop_it(
    postgres_server: PostgresServer, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """The server ends its transaction before those who wait give up; waking, it is refused."""
    url = postgres_url(postgres_server, "frozen_writer")
    store = open_control_store(url, clock=SystemClock())
    store.declare_agents([AgentDeclaration("a", "net", "w", "eu", 1, 1)])
    placed = Placement("a", "net", "w", "n1", "eu", 0, 0, "running", "", AT)
    store.place_agents([placed])
    leader = store.acquire_lease(LEADER_LEASE, "one", 60.0)
    writer = frozen_writer(start_python, url)
    order = placed._replace(node_id="n2", epoch=1, term=leader.term)
    assert [p.epoch for p in store.place_agents([order], leader_term=leader.term)] == [2]
    os.kill(writer.pid, signal.SIGCONT)
    said, errors = writer.communicate("go on\n", timeout=30)
    assert said.startswith("refused control store"), errors
    assert [(p.node_id, p.epoch) for p in store.placements()] == [("n2", 2)]
    store.close()


def test_on_sqlite_a_frozen_writer_stops_every_write_until_it_is_killed(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """One file has one write lock: reads go on, writes fail in time, SIGKILL frees them."""
    url = sqlite_url(tmp_path)
    store = open_control_store(url, clock=SystemClock(), busy_timeout_s=0.3)
    writer = frozen_writer(start_python, url)
    with pytest.raises(StoreUnavailableError, match="locked"):
        store.ping()
    assert store.node_beats() == []
    assert store.placements() == []
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait(30)
    store.ping()
    store.close()
