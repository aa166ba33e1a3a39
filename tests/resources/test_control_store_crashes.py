"""A writer is killed in the middle: what it was told is stored, and nothing is torn.

SIGKILL proves the order of commit and acknowledgement, and that a transaction is whole or absent.
It does not prove that the disk keeps what was fsynced when the power goes; that is the disk's part.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleet.placement_history import find_missing_epochs, find_stale_epochs
from fleet.ports.control_store import ControlStore
from resources.control_store.opening import open_control_store
from tests.fakes.clock import ManualClock
from tests.resources.state_writer import AGENTS, body_of
from tests.servers.postgres import PostgresServer

WRITER = "import sys; from tests.resources.state_writer import main; main(*sys.argv[1:])"

StartPython = Callable[..., subprocess.Popen[str]]


def write_until_killed(start_python: StartPython, url: str, seed: str) -> dict[str, dict[str, int]]:
    """Kill a writer at a seeded moment; returns the highest epoch and version it was told."""
    chooser = random.Random(f"kill {seed}")
    writer = start_python(WRITER, url, seed)
    assert writer.stdout is not None
    lines = []
    for _ in range(chooser.randrange(1, 150)):
        lines.append(writer.stdout.readline())
        assert lines[-1], writer.communicate()
    time.sleep(chooser.random() * 0.03)
    writer.kill()
    rest, _ = writer.communicate()
    # A last line without its end was being written at the moment of death.
    lines += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    told: dict[str, dict[str, int]] = {"placed": {}, "put": {}}
    for line in lines:
        kind, agent_id, number = line.split()
        told[kind][agent_id] = int(number)
    return told


def assert_whole(store: ControlStore, told: dict[str, dict[str, int]]) -> None:
    """Everything acknowledged is there; states agree with their log, placements with theirs."""
    epochs = {placement.agent_id: placement.epoch for placement in store.placements()}
    for agent_id, epoch in told["placed"].items():
        assert epochs[agent_id] >= epoch
    rows = store.placement_history(0, 1_000_000)
    assert {row.agent_id: row.epoch for row in rows} == epochs
    assert find_missing_epochs(rows) == []
    assert find_stale_epochs(rows, store.state_changes(0, 1_000_000)) == []
    newest: dict[str, int] = {}
    for change in store.state_changes(0, 1_000_000):
        assert change.version == newest.get(change.agent_id, 0) + 1
        newest[change.agent_id] = change.version
    for agent_id in AGENTS:
        state = store.state(agent_id)  # which verifies the digest
        version = 0 if state is None else state.version
        assert version == newest.get(agent_id, 0)
        assert version >= told["put"].get(agent_id, 0)
        if state is not None:
            assert state.body == body_of(agent_id, version)
            assert state.epoch <= epochs[agent_id]


def kill_many_times(start_python: StartPython, url: str, seeds: range) -> None:
    """Each writer goes on where the one before it was killed."""
    for seed in seeds:
        told = write_until_killed(start_python, url, str(seed))
        store = open_control_store(url, clock=ManualClock())
        try:
            assert_whole(store, told)
        finally:
            store.close()


def assert_sound(path: Path) -> None:
    """SQLite's own check of every page and index."""
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_a_killed_writer_loses_nothing_that_was_acknowledged(
    start_python: StartPython, tmp_path: Path
) -> None:
    """SQLite: eight kills at seeded moments, also while the store is being created."""
    path = tmp_path / "control.db"
    kill_many_times(start_python, f"sqlite:///{path}", range(8))
    assert_sound(path)


@pytest.mark.postgres
def test_a_killed_client_of_postgresql_loses_nothing_that_was_acknowledged(
    start_python: StartPython, postgres_server: PostgresServer
) -> None:
    """The server rolls back what the client could not commit."""
    kill_many_times(start_python, postgres_server.create_database("crashes"), range(4))


@pytest.mark.long
def test_a_hundred_killed_writers_lose_nothing_that_was_acknowledged(
    start_python: StartPython, tmp_path: Path
) -> None:
    """SQLite, many more moments."""
    path = tmp_path / "control.db"
    kill_many_times(start_python, f"sqlite:///{path}", range(100, 200))
    assert_sound(path)
