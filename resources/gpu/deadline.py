"""One thread for all calls into a driver, so that a call which never returns costs one thread.

A driver that hangs (a GPU that stops answering in the middle of a register read) cannot be
interrupted from Python. The caller gets an error in time instead, the thread stays with the hanging
call, and no second one is started until it comes back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from fleet.errors import TransientError


class DriverStuckError(TransientError):
    """A call into the driver did not return in time, or an earlier one still has not."""

    def __init__(self, elapsed_s: float) -> None:
        """Keep how long the call has been running."""
        super().__init__(f"a driver call has not returned for {elapsed_s:.1f} s")
        self.elapsed_s = elapsed_s


class _Job:
    """One piece of work with its outcome."""

    def __init__(self, work: Callable[[], Any], started_s: float) -> None:
        self.work = work
        self.started_s = started_s
        self.done = threading.Event()
        self.is_late = False
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
            self.error = error
        self.done.set()

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


class DriverThread:
    """Runs one piece of work at a time on its own daemon thread, with a deadline for the caller."""

    def __init__(self, name: str, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Start nothing yet; the thread begins with the first call.

        Args:
            name: of the thread, for stack dumps.
            monotonic_s: clock for the durations in error messages.
        """
        self._name = name
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._job: _Job | None = None

    def call(self, work: Callable[[], Any], timeout_s: float) -> Any:
        """Run `work` on the thread and return what it returns.

        Raises:
            DriverStuckError: it did not return within `timeout_s` (and goes on in the background),
                or an earlier call still has not returned.
        """
        with self._lock:
            if self._job is not None and not self._job.done.is_set():
                raise DriverStuckError(self._monotonic_s() - self._job.started_s)
            job = self._job = _Job(work, self._monotonic_s())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._jobs.put(job)
        if not job.done.wait(timeout_s):
            job.is_late = True
            raise DriverStuckError(timeout_s)
        return job.outcome()

    def collect_late(self) -> Any | None:
        """Hand out, once, the result of a call that returned after its deadline; else None."""
        with self._lock:
            job = self._job
            if job is None or not job.is_late or not job.done.is_set():
                return None
            self._job = None
        return job.outcome()

    def close(self, timeout_s: float) -> bool:
        """End the thread; False when a hanging call keeps it (it then dies with the process)."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._jobs.put(None)
        thread.join(timeout_s)
        return not thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
