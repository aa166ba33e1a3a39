"""The loop and the entry, in real processes that end by signal, by order, by fence, by error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.agent_server import AgentServer

ROOT = Path(__file__).parents[2]
Starter = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(server: AgentServer) -> Iterator[Starter]:
    """Start a function as agent-1; every process is ended."""
    processes: list[subprocess.Popen[str]] = []

    def begin(
        function: str, epoch: int = 1, arguments: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "stateroom_agent.main", function],
            env=os.environ
            | {
                "PYTHONPATH": f"{ROOT / 'sdk'}{os.pathsep}{ROOT}",
                "AGENT_ID": "agent-1",
                "NETWORK_ID": "net-1",
                "EPOCH": str(epoch),
                "STATEROOM_SOCKET": str(server.socket_path),
                "AGENT_ARGUMENTS": json.dumps(arguments or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _until(condition: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.005)


def _state(server: AgentServer) -> int:
    stored = server.store.state("agent-1")
    return 0 if stored is None else int(stored.body)


def _steps(server: AgentServer) -> list[str]:
    return [note.text for note in server.store.notes("net-1", "", 9999)]


def test_sigterm_ends_the_loop_with_a_last_checkpoint(server: AgentServer, start: Starter) -> None:
    """Each finished step is in the state; the next life goes on from there."""
    process = start("tests.sdk.sample_agents:count")
    _until(lambda: _state(server) >= 3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "")
    assert _steps(server) == [f"step {n}" for n in range(1, _state(server) + 1)]
    before = _state(server)
    server.admit()
    again = start("tests.sdk.sample_agents:count")
    _until(lambda: _state(server) > before)
    again.kill()
    again.communicate()
    assert _steps(server)[before] == f"step {before + 1}"


def test_an_order_to_stop_ends_the_loop_with_a_last_checkpoint(
    server: AgentServer, start: Starter
) -> None:
    """The heartbeat brings the order."""
    process = start("tests.sdk.sample_agents:count")
    _until(lambda: _state(server) >= 1)
    server.directory.dismiss("agent-1", "moved")
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert len(_steps(server)) == _state(server)


def test_heartbeats_go_on_while_a_step_is_slow(server: AgentServer, start: Starter) -> None:
    """And the order to stop reaches the step itself."""
    process = start("tests.sdk.sample_agents:work_slowly")
    _until(lambda: _steps(server) == ["begun"])
    seen = set()
    _until(lambda: seen.add(server.directory.entries()[0].heartbeat_at) or len(seen) >= 5)
    assert _steps(server) == ["begun"]
    server.directory.dismiss("agent-1", "enough")
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert _steps(server) == ["begun", "ended"]


def test_a_fenced_process_ends_with_its_own_code_and_saves_nothing(
    server: AgentServer, start: Starter
) -> None:
    """Exit code 4, with the reason in its output."""
    process = start("tests.sdk.sample_agents:count")
    _until(lambda: _state(server) >= 1)
    server.admit(epoch=2)
    saved = _state(server)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "FencedError" in output
    assert "must stop" in output
    assert _state(server) in {saved, saved + 1}


def test_a_failed_step_ends_the_process_without_a_checkpoint(
    server: AgentServer, start: Starter
) -> None:
    """A state that may be half done is not saved; the traceback is in the output."""
    process = start("tests.sdk.sample_agents:crash")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "RuntimeError: as planned" in output
    assert server.store.state("agent-1") is None


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("", "package.module:callable"),
        ("tests.sdk.sample_agents", "package.module:callable"),
        ("tests.sdk.sample_agents:missing", "no callable 'missing'"),
        ("tests.sdk.sample_agents:NO_CALLABLE", "no callable"),
        ("no.such.module:x", "ModuleNotFoundError"),
    ],
)
def test_a_wrong_function_is_named(
    start: Starter, server: AgentServer, function: str, says: str
) -> None:
    """Exit code 1 and what to write instead."""
    process = start(function)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert says in output


def test_declared_intervals_come_before_those_of_the_node(
    server: AgentServer, start: Starter
) -> None:
    """A checkpoint interval of an hour leaves only the last checkpoint."""
    process = start("tests.sdk.sample_agents:count", arguments={"checkpoint_interval_s": "3600"})
    _until(lambda: len(_steps(server)) >= 5)
    assert server.store.state("agent-1") is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert _state(server) == len(_steps(server))
    assert len(server.store.history) == 1
