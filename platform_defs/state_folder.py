"""The state folder: what is where, who runs in it, and the lock that keeps it to one `up`.

::

    <state_dir>/
      run/up.lock         held (flock) by the `stateroom up` that owns the folder
      run/up.json         that process: pid, URL, what it has started
      control.db, lake/   the stores (see their settings)
      dagster/            DAGSTER_HOME: dagster.yaml, workspace.yaml and Dagster's own storage
      logs/               one file per process

The lock dies with its process, also with SIGKILL, so it can never be left behind.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fleet.errors import AlreadyRunningError, InvalidInputError

SOCKET_PATH_MAX_BYTES = 107
"""Longest path of a Unix socket (`sun_path` of unix(7), less its final zero byte)."""


@dataclass(frozen=True, slots=True)
class UpRun:
    """The running `stateroom up`, as it says itself."""

    pid: int
    started_at: str
    """ISO 8601, UTC."""
    url: str
    """Of the UI; empty without one."""
    ready: bool
    """Everything has started and was materialized once."""
    problem: str = ""
    """What went wrong at the start without ending it."""
    processes: dict[str, int] = field(default_factory=dict)
    """Name -> pid of each process beside the nodes."""


class StateFolder:
    """Paths below one state folder; nothing is created before `prepare`."""

    def __init__(self, root: Path) -> None:
        """Name the folder."""
        self.root = root
        self.run_dir = root / "run"
        self.log_dir = root / "logs"
        self.dagster_home = root / "dagster"
        self.lock_path = self.run_dir / "up.lock"
        self.up_path = self.run_dir / "up.json"

    def prepare(self) -> None:
        """Create the folders that are missing, for their owner's eyes only.

        Raises:
            InvalidInputError: the folder cannot be created or written.
        """
        try:
            for folder in (self.root, self.run_dir, self.log_dir, self.dagster_home):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InvalidInputError(
                "fleet.state_dir",
                str(self.root),
                f"a folder that can be created and written ({error.strerror})",
                hint="Choose another folder in stateroom.toml, or fix its permissions.",
            ) from error

    def socket_path(self, name: str) -> Path:
        """Where a process of this fleet listens: here, or elsewhere when the folder is too deep.

        The kernel takes 107 bytes. A deeper state folder gets a private folder for temporary files,
        with a name derived from this one's, so that a restart finds the same path.

        Raises:
            InvalidInputError: somebody else owns that other folder.
        """
        path = self.run_dir / "sockets" / f"{name}.sock"
        if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:
            folder = Path(tempfile.gettempdir()) / f"stateroom-{os.getuid()}"
            folder.mkdir(mode=0o700, exist_ok=True)
            facts = folder.lstat()
            if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
                raise InvalidInputError(
                    "fleet.state_dir",
                    str(self.root),
                    f"a shorter path, because {folder}, for the sockets, is not private",
                )
            path = folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.sock"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder; nobody else can start in it meanwhile.

        Raises:
            AlreadyRunningError: another process holds it; names the pid.
        """
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(descriptor, 64, 0).decode().strip()
                raise AlreadyRunningError(
                    f"a fleet is already running on {self.root} (pid {holder or 'unknown'})",
                    hint="Stop it with `stateroom down`, or look at it with `stateroom status`.",
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def is_held(self) -> bool:
        """Whether a process holds the folder now."""
        return self.holder_pid() is not None

    def holder_pid(self) -> int | None:
        """The process that holds the folder, or None; 0 while it has not yet written its pid."""
        try:
            descriptor = os.open(self.lock_path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, 64, 0).decode().strip()
            return int(text) if text.isdigit() else 0
        finally:
            os.close(descriptor)
        return None

    def write_up(self, run: UpRun) -> None:
        """Say what runs, atomically."""
        partial = self.up_path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(asdict(run), indent=1), encoding="utf-8")
        partial.replace(self.up_path)

    def read_up(self) -> UpRun | None:
        """The running `up`, or None when the folder is not held."""
        if not self.is_held():
            return None
        try:
            return UpRun(**json.loads(self.up_path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None  # it has the lock and has not written yet
