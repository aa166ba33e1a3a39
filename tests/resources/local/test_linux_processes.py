"""Identity of processes: no signal ever hits a stranger."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from resources.local.linux_processes import (
    ProcessIdentity,
    descendants,
    group_members,
    identify,
    is_alive,
    open_pidfd,
    read_stat,
    send_signal,
    signal_group,
)
from tests.resources.local.fleets import eventually


@pytest.fixture
def leader() -> Iterator[ProcessIdentity]:
    """A process that leads its own group, with one child."""
    command = ["sh", "-c", "sleep 1000 & wait"]
    with subprocess.Popen(command, start_new_session=True) as process:
        identity = identify(process.pid)
        assert identity is not None
        eventually(lambda: len(group_members(process.pid)) == 2, "the child is up")
        yield identity
        signal_group(identity, signal.SIGKILL)
        process.kill()


def test_another_start_time_is_another_process(leader: ProcessIdentity) -> None:
    """A run file from before the pid was used again signals nobody."""
    stranger = leader._replace(start_ticks=leader.start_ticks + 1)
    assert not is_alive(stranger)
    assert not send_signal(stranger, signal.SIGKILL)
    assert not signal_group(stranger, signal.SIGKILL)
    assert open_pidfd(stranger) is None
    assert is_alive(leader)


def test_a_group_is_signalled_only_through_its_leader(leader: ProcessIdentity) -> None:
    """A member's identity gives no right over the group."""
    (member,) = descendants(leader.pid)
    assert not signal_group(member, signal.SIGKILL)
    assert signal_group(leader, signal.SIGKILL)
    eventually(lambda: not is_alive(leader) and not is_alive(member), "all are gone")


def test_a_zombie_is_gone_and_a_stopped_process_is_not() -> None:
    """What was not reaped yet cannot act any more; what is frozen can."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        identity = identify(process.pid)
        assert identity is not None
        assert send_signal(identity, signal.SIGSTOP)
        eventually(lambda: (s := read_stat(process.pid)) and s.state == "T", "it is stopped")
        assert is_alive(identity)
        assert send_signal(identity, signal.SIGKILL)
        eventually(lambda: (s := read_stat(process.pid)) and s.state == "Z", "it is a zombie")
        assert not is_alive(identity)
    assert read_stat(process.pid) is None
    assert not send_signal(identity, signal.SIGKILL)


def test_a_name_with_blanks_and_parentheses_is_read_over() -> None:
    """Field 2 of the stat file may look like other fields."""
    code = (
        "import sys; from resources.local.linux_processes import *;"
        "set_process_name(') R 1 2 (x'); print(read_stat(int(sys.argv[1]) or os.getpid())[1:3])"
    )
    import sys

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(
        [sys.executable, "-c", f"import os; {code}", "0"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert said.stdout == f"({os.getpid()}, {os.getpgid(0)})\n"
