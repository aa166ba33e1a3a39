"""Failover runs in simulated time: the real steps, each run a thread that waits for its turn.

Exactly one thread is awake at any moment: the drive, or the run that it lets go on until the run
pauses or ends. So a history depends on nothing but its arguments. A run can be killed before or
after any call that writes, and while it waits.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Semaphore, Thread
from typing import Any

from fleet.errors import StateroomError, TransientError
from fleet.failover_order import FailoverOrder
from ops.failover_ports import FailoverPorts
from ops.failover_run import carry_out
from tests.ops.failover_world import CrashedError, CrashingCalls

NEVER = -1
READY_TIMEOUT_S = 60.0


class RunClock:
    """`PatientClock` of one run: a pause hands the turn back."""

    def __init__(self, run: OpsRun, clock: Any) -> None:
        """Tell the time of `clock`."""
        self._run, self._clock = run, clock
        self.now = clock.now
        self.monotonic_s = clock.monotonic_s

    def pause(self, seconds: float) -> bool:
        """Sleep at least so long."""
        self._run.sleep(seconds)
        return True


class OpsRun:
    """One process that carries an order out; `resume` lets it go on."""

    def __init__(
        self,
        order: FailoverOrder,
        ports: Callable[[Any, RunClock], FailoverPorts],
        store: Any,
        clock: Any,
        crash_at: int = NEVER,
        *,
        after: bool = False,
    ) -> None:
        """Wait for the first turn.

        Args:
            order: to carry out.
            ports: makes the world of the run from its store and clock.
            store: as this process reaches it.
            clock: of the simulation.
            crash_at: number of the writing call that kills it; `NEVER`.
            after: whether the call takes effect before the process dies.
        """
        self.order = order
        self.wake_s = clock.monotonic_s()
        self.outcome = ""
        """`done`, `crashed`, or what ended it; empty while it goes on."""
        self.retry = False
        """Whether what ended it may pass by itself."""
        self._error: BaseException | None = None
        self._killed = False
        self._go, self._back = Semaphore(0), Semaphore(0)
        self._clock = clock
        self._ports = ports(CrashingCalls(store, crash_at, after=after), RunClock(self, clock))
        self._thread = Thread(target=self._carry_out, name=order.incident_id, daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Let it go on until it pauses or ends."""
        self._go.release()
        self._back.acquire()
        if self.outcome:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def kill(self) -> None:
        """End the process where it stands."""
        if not self.outcome:
            self._killed = True
            self.resume()

    def sleep(self, seconds: float) -> None:
        """Hand the turn back; called by the run's own thread."""
        self.wake_s = self._clock.monotonic_s() + seconds
        self._back.release()
        self._go.acquire()
        self._live_on()

    def _live_on(self) -> None:
        if self._killed:
            raise CrashedError

    def _carry_out(self) -> None:
        self._go.acquire()
        try:
            self._live_on()
            result = carry_out(self._ports, self.order, READY_TIMEOUT_S)
            waiting = len(result.arrival.waiting)
            self.outcome = f"done, {waiting} agents do not run yet" if waiting else "done"
        except CrashedError:
            self.outcome = "crashed"
        except StateroomError as error:
            self.retry = isinstance(error, TransientError)
            self.outcome = f"{type(error).__name__}: {error}"
        except BaseException as error:  # noqa: BLE001 - raised again in the drive's thread
            self._error, self.outcome = error, "broken"
        finally:
            self._back.release()
