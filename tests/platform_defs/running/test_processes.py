"""Managed processes: logs, restarts with delay, giving up, and an end without orphans."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.agents import RestartMode, RestartPolicy
from fleet.errors import AlreadyRunningError, InvalidInputError, PermanentError
from platform_defs import processes
from platform_defs.ports_check import check_port_free, free_port
from platform_defs.processes import ManagedProcess, ProcessSpec
from resources.local.linux_processes import identify, is_alive

ROOT = Path(__file__).resolve().parents[3]

FAMILY = """
import subprocess, sys, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                         start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


def spec(folder: Path, script: str, grace_s: float = 5.0) -> ProcessSpec:
    """A Python process."""
    argv = [sys.executable, "-c", script]
    return ProcessSpec("worker", argv, dict(os.environ), folder, folder / "worker.log", grace_s)


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Poll until something holds."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays of milliseconds; two restarts are allowed."""
    policy = RestartPolicy(RestartMode.ALWAYS, delay_s=0.01, attempts_max=2, window_s=60)
    monkeypatch.setattr(processes, "RESTARTS", policy)


def test_a_process_that_ends_is_started_again_and_then_given_up(
    tmp_path: Path, quick_restarts: None
) -> None:
    """Each end is said with its exit code and log; a crash loop ends in an error."""
    worker = ManagedProcess(spec(tmp_path, "print('hello', flush=True); raise SystemExit(3)"))
    said: list[str] = []
    worker.start()

    def given_up() -> bool:
        try:
            worker.watch(said.append)
        except PermanentError as error:
            said.append(str(error))
            return True
        return False

    wait_until(given_up)
    assert [line.split(":")[0] for line in said] == [
        "worker ended",
        f"worker started again (pid {said[1].split()[-1]}",
        "worker ended",
        f"worker started again (pid {said[3].split()[-1]}",
        "worker keeps ending (exit code 3; 2 restarts in 60 s, allowed 2)",
    ]
    assert (tmp_path / "worker.log").read_text() == "hello\n" * 3
    assert worker.log_tail(1) == "hello"


def test_a_process_that_only_watches_ends_nothing_however_often_it_ends(
    tmp_path: Path, quick_restarts: None
) -> None:
    """It is tried again after a long pause; each end is said with its log."""
    made = replace(spec(tmp_path, "raise SystemExit(3)"), vital=False)
    worker = ManagedProcess(made)
    said: list[str] = []
    worker.start()

    def tried_often() -> bool:
        worker.watch(said.append)
        return len(said) == 5

    wait_until(tried_often)
    assert said[-1].startswith("worker ended: exit code 3; 2 restarts in 60 s, allowed 2; ")
    assert str(made.log_path) in said[-1]
    for _ in range(20):
        worker.watch(said.append)
    assert len(said) == 5
    worker.stop()


def test_stopping_ends_the_stubborn_and_what_has_left_the_group(tmp_path: Path) -> None:
    """SIGTERM is ignored and the grandchild has a session of its own: both are gone."""
    worker = ManagedProcess(spec(tmp_path, FAMILY, grace_s=0.2))
    worker.start()
    log = tmp_path / "worker.log"
    wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
    assert worker.pid is not None
    grandchild = identify(int(log.read_text()))
    assert grandchild is not None
    worker.stop()
    assert worker.exit_code() == -signal.SIGKILL
    wait_until(lambda: not is_alive(grandchild))


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """The hint says how to install."""
    missing = ProcessSpec("ui", ["/no/such/program"], {}, tmp_path, tmp_path / "ui.log")
    with pytest.raises(PermanentError, match="ui cannot be started") as caught:
        ManagedProcess(missing).start()
    assert "make install" in caught.value.hint


def test_a_large_log_is_set_aside_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs cannot fill the disk over many restarts."""
    monkeypatch.setattr(processes, "LOG_KEEP_BYTES", 10)
    (tmp_path / "worker.log").write_text("x" * 11)
    worker = ManagedProcess(spec(tmp_path, "print('new')"))
    worker.start()
    wait_until(lambda: worker.exit_code() is not None)
    assert (tmp_path / "worker.log").read_text() == "new\n"
    assert (tmp_path / "worker.log.1").read_text() == "x" * 11


def test_a_port_in_use_names_its_process() -> None:
    """An operator can end it, or take another port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()}") as caught:
            check_port_free("127.0.0.1", port)
        assert f"STATEROOM_WEB__PORT={port + 1}" in caught.value.hint


def test_a_free_port_is_free_and_a_foreign_address_is_refused() -> None:
    """192.0.2.1 is of a network for documentation: it is never this machine's."""
    check_port_free("127.0.0.1", free_port())
    with pytest.raises(InvalidInputError, match="an address to listen on"):
        check_port_free("192.0.2.1", 80)


KEPT = """
import os, signal, subprocess, sys, time
from platform_defs.keeping import split_front_from_keeper
split_front_from_keeper()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                         start_new_session=True)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
print(os.getpid(), child.pid, flush=True)
while not stop:
    time.sleep(0.02)
if sys.argv[1] == "tidy":
    child.kill(); child.wait()
sys.exit(7)
"""


@pytest.fixture
def kept() -> Iterator[Callable[[str], tuple[subprocess.Popen[bytes], int, int]]]:
    """Starts a front with its keeper and a child; all are gone at the end."""
    fronts: list[subprocess.Popen[bytes]] = []

    def start(mode: str) -> tuple[subprocess.Popen[bytes], int, int]:
        front = subprocess.Popen(
            [sys.executable, "-c", KEPT, mode], cwd=ROOT, stdout=subprocess.PIPE
        )
        fronts.append(front)
        assert front.stdout is not None
        keeper, child = map(int, front.stdout.readline().split())
        return front, keeper, child

    yield start
    for front in fronts:
        if front.poll() is None:
            front.terminate()
        front.communicate()


Start = Callable[[str], tuple[subprocess.Popen[bytes], int, int]]


def test_the_front_passes_signals_on_and_the_exit_code_back(kept: Start) -> None:
    """Ctrl-C reaches the keeper; whatever the keeper forgot is ended by the front."""
    front, _, child = kept("forgetful")
    identity = identify(child)
    assert identity is not None
    front.send_signal(signal.SIGINT)
    assert front.wait(20) == 7
    assert not is_alive(identity)


def test_nothing_outlives_the_front_even_if_it_is_killed(kept: Start) -> None:
    """SIGKILL of the front: the kernel tells the keeper, which tidies up."""
    front, keeper, child = kept("tidy")
    identities = [identify(keeper), identify(child)]
    front.kill()
    front.wait()
    wait_until(lambda: not any(i is not None and is_alive(i) for i in identities))


def test_nothing_outlives_the_keeper_even_if_it_is_killed(kept: Start) -> None:
    """SIGKILL of the keeper: the front adopts its children and ends them."""
    front, keeper, child = kept("tidy")
    identity = identify(child)
    assert identity is not None
    os.kill(keeper, signal.SIGKILL)
    assert front.wait(20) == 128 + signal.SIGKILL
    assert not is_alive(identity)
