"""Recorded load on an even grid: what was measured at uneven times, or arrived one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite

from fleet.errors import InvalidInputError

STEP_S = 15
"""Time between two reconciles of Kubernetes' controller, and of ours."""
STEPS_MAX = 10_000_000
"""Of one trace: 4.7 years at 15 s. A wrong unit of time would make for more."""


@dataclass(frozen=True, slots=True)
class LoadTrace:
    """Load by time, one value for each step."""

    name: str
    start: datetime
    """Of the first step; aware."""
    step_s: int
    load: Sequence[float]
    """0 or more: mean of the step, in the unit of the recording (requests/s, tasks that wait)."""

    @property
    def duration_s(self) -> int:
        """Seconds from the first step to the end of the last one."""
        return self.step_s * len(self.load)

    @property
    def peak(self) -> float:
        """The highest value."""
        return max(self.load)

    def repeated(self, times: int) -> LoadTrace:
        """The same load again and again: an hour becomes a day."""
        return LoadTrace(self.name, self.start, self.step_s, list(self.load) * times)


def sampled_trace(name: str, samples: Mapping[float, float], step_s: int = STEP_S) -> LoadTrace:
    """Load that was measured now and then: each value holds until the next one.

    Args:
        name: what it is called in reports.
        samples: seconds since 1970 -> value, in any order.
        step_s: of the grid.

    Raises:
        InvalidInputError: no sample, or a value or time that cannot be.
    """
    _check_step(step_s)
    times = sorted(samples)
    _check_times(name, times)
    for at in times:
        _check_value(name, at, samples[at])
    steps = int((times[-1] - times[0]) // step_s) + 1
    load: list[float] = []
    held = 0
    for index in range(steps):
        grid = times[0] + index * step_s
        while held + 1 < len(times) and times[held + 1] <= grid:
            held += 1
        load.append(samples[times[held]])
    return LoadTrace(name, moment_of_seconds(times[0]), step_s, load)


def arrivals_trace(
    name: str, arrivals: Iterable[tuple[float, float]], step_s: int = STEP_S
) -> LoadTrace:
    """Load that came one by one: what arrives within a step, by second.

    Args:
        name: what it is called in reports.
        arrivals: seconds since 1970 and size (1 for requests, tokens, ...), in any order.
        step_s: of the grid. The last step is left out unless it is full: half of it was recorded.

    Raises:
        InvalidInputError: less than one step of arrivals, or one that cannot be.
    """
    _check_step(step_s)
    found = list(arrivals)
    for at, size in found:
        _check_value(name, at, size)
    times = [at for at, _ in found]
    _check_times(name, times)
    first, last = min(times), max(times)
    steps = int((last - first) // step_s)
    if not steps:
        raise InvalidInputError(f"load {name}", last - first, f"{step_s} s of arrivals or more")
    load = [0.0] * steps
    for at, size in found:
        index = int((at - first) // step_s)
        if index < steps:
            load[index] += size / step_s
    return LoadTrace(name, moment_of_seconds(first), step_s, load)


def moment_of_seconds(seconds: float) -> datetime:
    """A moment of seconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def _check_step(step_s: int) -> None:
    if step_s < 1:
        raise InvalidInputError("step_s", step_s, "1 or more seconds")


def _check_times(name: str, times: Sequence[float]) -> None:
    if not times:
        raise InvalidInputError(f"load {name}", "", "one row or more")
    if not all(isfinite(at) for at in times):
        raise InvalidInputError(f"time of load {name}", "not finite", "seconds since 1970")
    span_s = max(times) - min(times)
    if span_s > STEPS_MAX * STEP_S:
        allowed = f"up to {STEPS_MAX * STEP_S} s from first to last"
        hint = "Times are seconds since 1970 or ISO 8601, not milliseconds."
        raise InvalidInputError(f"times of load {name}", span_s, allowed, hint=hint)


def _check_value(name: str, at: float, value: float) -> None:
    if not isfinite(value) or value < 0:
        raise InvalidInputError(f"load {name} at {at:.0f}", value, "a number of 0 or more")
