"""The state folder belongs to one `up` at a time, and says to whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.errors import AlreadyRunningError, InvalidInputError
from platform_defs.state_folder import SOCKET_PATH_MAX_BYTES, StateFolder, UpRun

ROOT = Path(__file__).resolve().parents[3]

HOLD = """
import sys, time
from pathlib import Path
from platform_defs.state_folder import StateFolder
folder = StateFolder(Path(sys.argv[1]))
folder.prepare()
with folder.exclusive():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    """A prepared folder."""
    made = StateFolder(tmp_path / "state")
    made.prepare()
    return made


def test_a_second_holder_is_refused_with_the_firsts_pid_until_it_dies(folder: StateFolder) -> None:
    """Even SIGKILL of the holder leaves no lock behind."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.root)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert folder.holder_pid() == holder.pid
        with (
            pytest.raises(AlreadyRunningError, match=f"pid {holder.pid}") as caught,
            folder.exclusive(),
        ):
            pass
        assert "stateroom down" in caught.value.hint
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert folder.holder_pid() is None
    with folder.exclusive():
        assert folder.holder_pid() == os.getpid()


def test_what_up_said_counts_only_while_it_runs(folder: StateFolder) -> None:
    """A file left behind by a killed `up` is no running fleet."""
    run = UpRun(
        os.getpid(), "2026-01-01T00:00:00+00:00", "http://x", ready=True, processes={"a": 1}
    )
    with folder.exclusive():
        assert folder.read_up() is None
        folder.write_up(run)
        assert folder.read_up() == run
    assert folder.read_up() is None


def test_the_folder_is_private(folder: StateFolder) -> None:
    """Stores may hold what agents remember."""
    assert folder.root.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "state").write_text("")
    with pytest.raises(InvalidInputError, match=r"fleet\.state_dir"):
        StateFolder(tmp_path / "state").prepare()


def test_sockets_of_deep_folders_find_a_short_path_again(tmp_path: Path) -> None:
    """The kernel's limit on socket paths must not limit where a fleet can live."""
    shallow = StateFolder(Path("/tmp/x")).run_dir / "sockets"
    assert len(str(shallow)) < SOCKET_PATH_MAX_BYTES
    deep = StateFolder(tmp_path / ("d" * 120))
    first, again = deep.socket_path("node-1"), deep.socket_path("node-1")
    assert first == again
    assert len(os.fsencode(first)) <= SOCKET_PATH_MAX_BYTES
    assert first != deep.socket_path("node-2")
    assert first.parent.stat().st_mode & 0o077 == 0
