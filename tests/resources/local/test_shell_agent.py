"""A shell script with curl is a full agent: durable, fenced, stoppable, surviving a restart."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.agent_server import AgentServer

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
SCRIPT = Path(__file__).with_name("agent.sh")

Starter = Callable[[int], "subprocess.Popen[str]"]


@pytest.fixture
def start(server: AgentServer) -> Iterator[Starter]:
    """Start the script as agent-1 under an epoch; every process is ended."""
    processes: list[subprocess.Popen[str]] = []

    def begin(epoch: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["sh", str(SCRIPT)],
            env={
                "PATH": os.environ["PATH"],
                "AGENT_ID": "agent-1",
                "NETWORK_ID": "net-1",
                "EPOCH": str(epoch),
                "STATEROOM_SOCKET": str(server.socket_path),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _kill(process: subprocess.Popen[str], server: AgentServer) -> None:
    """End a script with its curl, and wait until the request it may have sent is settled."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert server.batcher is not None
    before = -1
    while before != (before := server.batcher.stats().writes):
        time.sleep(0.1)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_shell_agent_counts_on_after_a_restart_and_stops_when_told(
    server: AgentServer, start: Starter
) -> None:
    """Killed in the middle, the next process goes on where the durable state is."""
    first = start(1)
    assert _line(first) == "step 1 version 1"
    assert _line(first) == "step 2 version 2"
    _kill(first, server)
    durable = int(server.store.stored["agent-1"].body)
    assert durable >= 2
    second = start(1)
    assert _line(second) == f"step {durable + 1} version {durable + 1}"
    server.directory.dismiss("agent-1", "end of the test")
    output, _ = second.communicate(timeout=30)
    assert second.returncode == 0
    assert output.rstrip().endswith("told to stop")
    bodies = [int(body) for _, _, body in server.store.history]
    assert bodies == list(range(1, len(bodies) + 1))
    assert server.directory.entries()[0].metrics["tasks"] == float(bodies[-1])
    assert {f"step {n}" for n in range(1, 3)} <= {
        a.detail for a in server.store.activities(None, 99)
    }
    assert server.store.note_log


def test_a_shell_agent_that_was_replaced_is_fenced(server: AgentServer, start: Starter) -> None:
    """Its next put is refused and it ends with its own exit code."""
    zombie = start(1)
    assert _line(zombie) == "step 1 version 1"
    server.admit(epoch=2)
    output, _ = zombie.communicate(timeout=30)
    assert zombie.returncode != 0
    assert "fenced" in output or "409" in output
    newer = start(2)
    durable = int(server.store.stored["agent-1"].body)
    assert _line(newer) == f"step {durable + 1} version {durable + 1}"
