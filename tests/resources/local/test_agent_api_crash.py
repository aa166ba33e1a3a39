"""Killed without warning in the middle of writes, the node loses nothing it has acknowledged."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from stateroom_agent.agent import Agent

ROOT = Path(__file__).parents[3]
NAMES = [f"agent-{number}" for number in range(6)]
KILLS = 3


class Supervisor:
    """The server process on one socket and one database; may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        """Start it."""
        self.socket_path, self.database = folder / "s", folder / "control.db"
        self.start()

    def start(self) -> None:
        """Start the process."""
        module = "tests.fakes.agent_server_process"
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(self.socket_path), str(self.database), *NAMES],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'sdk'}"},
        )

    def kill(self) -> None:
        """End it without warning."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """End it in order; returns the exit code."""
        self._process.terminate()
        return self._process.wait(30)


@contextmanager
def _supervisor(folder: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(folder)
    try:
        yield supervisor
    finally:
        supervisor.kill()


def _write_until(stop: Event, supervisor: Supervisor, name: str) -> tuple[list[int], list[str]]:
    """Write as an agent does; returns acknowledged versions and notes."""
    agent = Agent(name, "net-1", 1, str(supervisor.socket_path), give_up_s=30.0)
    agent._requests._retry_wait = lambda delay_s: time.sleep(0.02)  # type: ignore[method-assign]
    versions: list[int] = []
    notes: list[str] = []
    try:
        while not stop.is_set():
            number = len(versions) + 1
            versions.append(agent.save_state(f"{name}:{number}".encode()))
            agent.note(f"{name}:{number}")
            notes.append(f"{name}:{number}")
    finally:
        agent.close()
    return versions, notes


def test_acknowledged_writes_survive_sigkill_and_agents_go_on_by_themselves() -> None:
    """Three kills under load: every version is there once, in order, with its own bytes."""
    with TemporaryDirectory(prefix="sr-") as name, _supervisor(Path(name)) as supervisor:
        stop = Event()
        with ThreadPoolExecutor(len(NAMES)) as pool:
            runs = {n: pool.submit(_write_until, stop, supervisor, n) for n in NAMES}
            with closing(
                open_control_store(f"sqlite:///{supervisor.database}", clock=SystemClock())
            ) as store:
                seen = 0
                for _ in range(KILLS):
                    give_up_s = time.monotonic() + 30
                    while len(store.state_changes(seen, 100)) < 50:
                        assert time.monotonic() < give_up_s
                        time.sleep(0.01)
                    supervisor.kill()
                    seen = store.state_changes(0, 10**6)[-1].change_id
                    supervisor.start()
                stop.set()
                results = {n: run.result(60) for n, run in runs.items()}
                changes = store.state_changes(0, 10**6)
                noted = [note.text for note in store.notes("net-1", "", 10**6)]
                for agent_id, (versions, notes) in results.items():
                    assert versions == list(range(1, len(versions) + 1))
                    stored = [c.version for c in changes if c.agent_id == agent_id]
                    assert stored == versions
                    state = store.state(agent_id)
                    assert state is not None
                    assert state.body == f"{agent_id}:{len(versions)}".encode()
                    assert sorted(t for t in noted if t.startswith(agent_id)) == sorted(notes)
        assert supervisor.stop() == 0
