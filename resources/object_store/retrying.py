"""Calling a remote store again while that can help: jitter, one deadline, fewer calls at once.

A store that says "slow down" gets half as many calls at a time, and one more again after each run
of successes. A store that stayed silent for a whole deadline is asked only once by each further
call until it answers, so that a long run against a dead store ends soon.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from threading import Condition
from typing import NamedTuple, TypeVar

from fleet.errors import StateroomError

T = TypeVar("T")
_GROW_AFTER = 16
"""Successes in a row after which one more call at a time is tried."""


class Retrying(NamedTuple):
    """How long and how often a store is asked."""

    deadline_s: float = 60.0
    """For one call with all its tries; a pack of 32 MiB then needs 0.6 MB/s."""
    first_delay_s: float = 0.1
    delay_max_s: float = 10.0
    calls_at_once_max: int = 16


class Chance(Enum):
    """What a fault says about asking again."""

    NONE = "asking again cannot help"
    AGAIN = "nothing was done; ask again"
    SLOWER = "nothing was done; ask again, and less often"
    UNSURE = "it may have been done; ask again and look"


class Fault(NamedTuple):
    """A failed try."""

    error: StateroomError
    chance: Chance


class CallLimit:
    """How many calls may run at once; halves when the store is overrun, grows with success."""

    def __init__(self, most: int) -> None:
        """Begin with as many as allowed."""
        self._most = most
        self._now = most
        self._running = 0
        self._good = 0
        self._changed = Condition()

    @property
    def now(self) -> int:
        """Calls that may run at once now."""
        return self._now

    @contextmanager
    def slot(self) -> Iterator[int]:
        """Wait for a turn; gives the limit under which the call began."""
        with self._changed:
            self._changed.wait_for(lambda: self._running < self._now)
            self._running += 1
            began = self._now
        try:
            yield began
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def halve(self, began: int) -> None:
        """The store is overrun; a wave of refusals that began together counts once."""
        with self._changed:
            if self._now == began:
                self._now = max(1, self._now // 2)
            self._good = 0

    def succeeded(self) -> None:
        """A call was answered."""
        with self._changed:
            self._good += 1
            if self._good >= _GROW_AFTER and self._now < self._most:
                self._now += 1
                self._good = 0
                self._changed.notify_all()


class Retrier:
    """Runs calls of one store; thread-safe.

    Args:
        policy: deadline, delays and limit.
        classify: turns an exception of a try into a fault; None to let it pass unchanged.
        chance: draws the jitter.
        sleep: waits; seconds.
        monotonic_s: measures; seconds.
    """

    def __init__(
        self,
        policy: Retrying,
        classify: Callable[[Exception, str], Fault | None],
        chance: random.Random | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with trust in the store."""
        self.limit = CallLimit(policy.calls_at_once_max)
        self._policy = policy
        self._classify = classify
        self._chance = chance or random.Random()
        self._sleep = sleep
        self._monotonic_s = monotonic_s
        self._is_silent = False

    def run(self, what: str, work: Callable[[bool, float], T]) -> T:
        """Try until it succeeds, cannot succeed, or the deadline has passed.

        Args:
            what: for the error: the object's key.
            work: one try; is told whether an earlier one may have been done, and the moment (of
                the monotonic clock) at which it must end.

        Raises:
            StateroomError: what the last fault was classified as.
        """
        spent_s = 0.0
        is_unsure = False
        for number in range(10_000):  # the deadline ends it long before
            with self.limit.slot() as began:
                since_s = self._monotonic_s()
                try:
                    result = work(is_unsure, since_s + self._policy.deadline_s - spent_s)
                except Exception as error:
                    fault = self._classify(error, what)
                    if fault is None or fault.chance is Chance.NONE:
                        self._is_silent = False
                        if fault is None:
                            raise
                        raise fault.error from error
                    failed: Exception = error
                else:
                    self._is_silent = False
                    self.limit.succeeded()
                    return result
                spent_s += self._monotonic_s() - since_s
            if fault.chance is Chance.SLOWER:
                self.limit.halve(began)
            is_unsure = is_unsure or fault.chance is Chance.UNSURE
            delay_s = self._delay_s(number)
            if self._is_silent or spent_s + delay_s >= self._policy.deadline_s:
                self._is_silent = True
                raise fault.error from failed
            self._sleep(delay_s)
            spent_s += delay_s
        raise AssertionError("unreachable: delays end at the deadline")

    def _delay_s(self, number: int) -> float:
        """Full jitter: anything between nothing and a doubling bound.

        Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
        """
        bound_s = min(self._policy.delay_max_s, self._policy.first_delay_s * 2 ** min(number, 30))
        return self._chance.uniform(bound_s / 10, bound_s)
