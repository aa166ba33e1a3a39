"""Processes that `stateroom up` starts and watches: each in a group of its own, with a log.

A process that ends is started again after a growing delay (`fleet.agents.decide_restart`). When one
that is vital keeps ending, everything stops; any other is tried again after a long pause.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet.agents import RestartMode, RestartPolicy, decide_restart
from fleet.errors import PermanentError
from resources.local.linux_processes import (
    ProcessIdentity,
    descendants,
    die_with_parent,
    send_signal,
)

RESTARTS = RestartPolicy(
    mode=RestartMode.ALWAYS, delay_s=1.0, delay_max_s=30.0, attempts_max=8, window_s=600.0
)
"""Eight restarts in ten minutes: a port that is taken or a full disk does not heal by itself."""

LOG_KEEP_BYTES = 32 * 1024 * 1024
"""A larger log is moved to `<name>.log.1` (replacing that) when its process is started."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to start."""

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    working_dir: Path
    log_path: Path
    stop_grace_s: float = 5.0
    """Between SIGTERM and SIGKILL of the whole group."""
    vital: bool = True
    """Whether everything stops when it keeps ending. What only watches must end nothing."""


class ManagedProcess:
    """One started process with its restarts."""

    def __init__(self, spec: ProcessSpec) -> None:
        """Describe; nothing is started."""
        self.spec = spec
        self.restarted_at: list[datetime] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._start_again_at_s: float | None = None

    @property
    def pid(self) -> int | None:
        """Pid of the running process."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def start(self) -> None:
        """Start it, with its output at the end of its log.

        Raises:
            PermanentError: the program cannot be started.
        """
        self.spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        _rotate(self.spec.log_path)
        parent_pid = os.getpid()

        def end_with_parent() -> None:
            if not die_with_parent(parent_pid, signal.SIGTERM):
                os._exit(1)

        try:
            with self.spec.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    list(self.spec.argv),
                    env=dict(self.spec.environ),
                    cwd=self.spec.working_dir,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=end_with_parent,  # noqa: PLW1509 - one prctl, which takes no lock
                )
        except OSError as error:
            raise PermanentError(
                f"{self.spec.name} cannot be started: {error.strerror or error}: "
                f"{error.filename or self.spec.argv[0]}",
                hint="Run `make install`, then `stateroom doctor`.",
            ) from error

    def exit_code(self) -> int | None:
        """Exit code once it has ended; None while it runs or before it was started."""
        return self._process.poll() if self._process else None

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log."""
        with self.spec.log_path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])

    def watch(self, say: Callable[[str], None]) -> None:
        """Start it again when it has ended and its delay is over.

        Raises:
            PermanentError: it is vital, and has ended more often than `RESTARTS` allows.
        """
        code = self.exit_code()
        if code is None:
            return
        if self._start_again_at_s is None:
            verdict = decide_restart(RESTARTS, code, self.restarted_at, datetime.now(UTC))
            gives_up = verdict.action != "restart"
            if gives_up and self.spec.vital:
                raise PermanentError(
                    f"{self.spec.name} keeps ending ({verdict.reason})",
                    hint=f"Its log says why: {self.spec.log_path}",
                )
            say(f"{self.spec.name} ended: {verdict.reason}; log: {self.spec.log_path}")
            delay_s = RESTARTS.window_s if gives_up else verdict.delay_s
            self._start_again_at_s = time.monotonic() + delay_s
        elif time.monotonic() >= self._start_again_at_s:
            self._start_again_at_s = None
            self.restarted_at.append(datetime.now(UTC))
            self.start()
            say(f"{self.spec.name} started again (pid {self.pid})")

    def ask_to_stop(self) -> list[ProcessIdentity]:
        """Send SIGTERM to its group; returns every process below it, to be killed later."""
        if self._process is None or self.exit_code() is not None:
            return []
        below = descendants(self._process.pid)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        return below

    def stop(self) -> None:
        """End it and everything below it; returns when they are gone."""
        below = self.ask_to_stop()
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self.spec.stop_grace_s)
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for identity in below:
            send_signal(identity, signal.SIGKILL)


def _rotate(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_KEEP_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
