"""A stop, asked for by a signal and noticed at the next pause: nothing is cut in half."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType


class StopAskedError(Exception):
    """Somebody has asked this process to stop; not an error of the fleet's."""


class StopSwitch:
    """Turns SIGTERM and SIGINT into a flag."""

    def __init__(self) -> None:
        """Not asked yet."""
        self.asked = False

    def listen(self) -> None:
        """Install the handlers; main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def pause(self, seconds: float) -> None:
        """Sleep.

        Raises:
            StopAskedError: a stop was asked for before or meanwhile.
        """
        end_s = time.monotonic() + seconds
        while not self.asked and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.05))
        if self.asked:
            raise StopAskedError

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Poll until the condition holds; False when the time is over.

        Raises:
            StopAskedError: a stop was asked for meanwhile.
        """
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() >= end_s:
                return False
            self.pause(0.1)
        return True
