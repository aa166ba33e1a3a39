"""Run workers are forked from a process that has the definitions imported.

Dagster's code server starts each run in a fresh interpreter, which imports Dagster and every module
of the location before the first step: half of the time budget of a failover. Here Python's own
fork server does the imports once, ahead of any run, and each worker is forked from it. All else is
Dagster's: the code server holds the worker's handle, cancels it, and reports it when it has died.

Three kinds of process take part: the code server, its warm parent (which only forks), and the run
workers. A warm parent that has died is started again by the next run. One that cannot be reached
costs that run the fresh interpreter it would have had without it: a run is started either way, and
once. A worker ends with its warm parent: the code server could no longer tell whether it lives, and
would report a run as failed that goes on. See docs/adr/0006-warm-run-workers.md.
"""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import (
    context,
    forkserver,
    popen_forkserver,
    popen_spawn_posix,
    reduction,
    spawn,
    util,
)
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from resources.local.linux_processes import die_with_parent, set_process_name

WARM_PARENT = "platform_defs.warm_parent"
"""Module whose import makes a process a warm parent."""

FORK_TIMEOUT_S = 45.0
"""For a warm parent to fork, its imports included (1.4 s of CPU): on an overloaded machine a fresh
interpreter, which has the same to import, would be no faster. Leaves time for one within the minute
that the daemon waits for the answer of a launch."""

PAUSE_S = 600.0
"""Without trying to start warm, after a warm parent has failed to load: it would fail again, and
each try makes a run wait."""

_log = logging.getLogger("dagster.code_server")

_warm_pid: int | None = None
"""Own pid in a warm parent; None elsewhere, so also in a worker and in what that forks."""


def start_warm_parent(module: str = WARM_PARENT) -> None:
    """Start the warm parent of this process, again when it has died; returns at once.

    Args:
        module: imported by it; calls `become_warm_parent`.
    """
    forkserver.set_forkserver_preload([module])
    forkserver.ensure_running()


class WarmPopen(popen_forkserver.Popen):
    """A process forked from the warm parent.

    Python's own version hands the work over before it knows that the fork took place, and waits
    without limit. This one waits, hands over only then, and so can give up without ever having
    started anything.
    """

    def _launch(self, process_obj: BaseProcess) -> None:
        content = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj.name), content)
            reduction.dump(process_obj, content)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, hand_over = forkserver.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        kept = os.dup(hand_over)  # its end tells the worker that this process has ended
        self.finalizer = util.Finalize(self, _close, (kept, self.sentinel))
        with open(hand_over, "wb", closefd=True) as pipe:  # noqa: PTH123 - a descriptor
            if not wait([self.sentinel], FORK_TIMEOUT_S):
                raise TimeoutError(f"the warm parent has not forked within {FORK_TIMEOUT_S:g} s")
            self.pid = forkserver.read_signed(self.sentinel)
            pipe.write(content.getbuffer())


def _close(*descriptors: int) -> None:
    for one in descriptors:
        os.close(one)


class WarmProcess(context.ForkServerProcess):
    """A process forked from the warm parent, or else from nothing."""

    cold_until_s = 0.0
    """Of the monotonic clock; until then none is looked for."""

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # noqa: N802 - multiprocessing's name
        if time.monotonic() >= WarmProcess.cold_until_s:
            try:
                return WarmPopen(process_obj)
            except (OSError, EOFError) as error:
                if not isinstance(error, ConnectionError):  # killed just now: the next run's is new
                    WarmProcess.cold_until_s = time.monotonic() + PAUSE_S
                _log.warning("No warm worker (%r): runs start in fresh interpreters.", error)
        return popen_spawn_posix.Popen(process_obj)


class WarmContext(context.ForkServerContext):
    """What `multiprocessing.get_context` would return, were this a start method."""

    Process = WarmProcess


def serve_warm() -> None:
    """Let the code server of this process start its run workers warm; before it is made.

    Dagster has no setting for it: the server keeps its start method in an attribute.
    """
    from dagster._grpc import server

    class WarmApiServer(server.DagsterApiServer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._mp_ctx: Any = WarmContext()
            start_warm_parent()  # only now: the definitions are known to load

    server.DagsterApiServer = WarmApiServer  # type: ignore[misc]


def become_warm_parent(load: Callable[[], None]) -> None:
    """Import what workers need, and leave the rest to Python's fork server, whose process this is.

    It outlives the SIGTERM that ends the code server's group, and ends when the code server and the
    last worker have ended. When loading fails it ends at once, with the reason in the code server's
    log, and workers start in fresh interpreters.

    Args:
        load: imports; leaves one thread, as forking is safe only then, and nothing open that a
            worker must not share: no connection, no file, no instance of Dagster.
    """
    global _warm_pid  # noqa: PLW0603 - it is a fact of the process
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_process_name("warm-parent")
    _warm_pid = os.getpid()
    os.register_at_fork(after_in_child=_become_worker)
    try:
        load()
        _demand_one_thread()
    except BaseException:  # noqa: BLE001 - Python would pass over an ImportError, and serve cold
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    gc.collect()
    gc.freeze()  # collections in workers then pass by what is shared, and leave its pages shared


def _demand_one_thread() -> None:
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise RuntimeError(f"{threads} threads after loading: forking would not be safe")


def _become_worker() -> None:
    """First act of a forked worker: end with the warm parent, and be interruptible again."""
    global _warm_pid
    warm_pid, _warm_pid = _warm_pid, None
    if warm_pid is None:
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    set_process_name("run-worker")
    if not die_with_parent(warm_pid, signal.SIGKILL):
        os._exit(1)
