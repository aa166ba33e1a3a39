"""Circuit breakers: stop asking what does not answer, ask again by one call, close when it does.

::

    CLOSED --failures_to_open in a row--> OPEN --after its pause--> HALF_OPEN
       ^                                    ^                           |
       +------ successes_to_close ----------+------- one failure -------+

Only transient errors count: a refusal ("your epoch is lower") is an answer of a backend that works.
The pause doubles with each probe that fails, up to `pause_max_s`. Pure: the time is an argument,
in monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fleet.errors import InvalidInputError


class BreakerPhase(StrEnum):
    """Whether calls pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and closes."""

    failures_to_open: int = 5
    """Transient failures in a row; fewer open it at the hiccup of one packet."""
    pause_s: float = 5.0
    """Of the first opening; half of what a health check's three failures take."""
    pause_max_s: float = 60.0
    """Longest: a backend that is back is noticed within a minute."""
    successes_to_close: int = 2
    """In a row while half-open; one call at a time passes until then."""


class BreakerState(NamedTuple):
    """One breaker; times are monotonic seconds of the process that holds it."""

    phase: BreakerPhase = BreakerPhase.CLOSED
    failures: int = 0
    """In a row."""
    successes: int = 0
    """In a row while half-open."""
    openings: int = 0
    """In a row without closing; the exponent of the pause."""
    until_s: float = 0.0
    """When OPEN: no call passes before. When HALF_OPEN: when a probe counts as lost."""
    probing: bool = False
    """A call passes while half-open, and has not ended."""
    reason: str = ""
    """Text of the last failure."""


class BreakerStatus(NamedTuple):
    """A breaker as `status` shows it."""

    name: str
    """Of what it guards: `traffic/haproxy`."""
    holder: str
    """Process that holds it: host and process id."""
    phase: BreakerPhase
    failures: int
    reason: str
    changed_at: datetime
    """When the phase changed, by the holder's wall clock."""


def validate_breaker_policy(policy: BreakerPolicy) -> BreakerPolicy:
    """Return a policy that can open and close.

    Raises:
        InvalidInputError: names the field.
    """
    if policy.failures_to_open < 1:
        raise InvalidInputError("failures_to_open", policy.failures_to_open, "1 or more")
    if policy.successes_to_close < 1:
        raise InvalidInputError("successes_to_close", policy.successes_to_close, "1 or more")
    if not 0.0 < policy.pause_s <= policy.pause_max_s:
        raise InvalidInputError("pause_s", policy.pause_s, "seconds above 0, up to pause_max_s")
    return policy


def pause_s(policy: BreakerPolicy, openings: int) -> float:
    """Seconds that the breaker stays open at its n-th opening in a row (from 1)."""
    return float(min(policy.pause_max_s, policy.pause_s * 2.0 ** min(openings - 1, 30)))


def admit_call(
    policy: BreakerPolicy, state: BreakerState, now_s: float
) -> tuple[BreakerState, bool]:
    """Say whether a call may pass now, and what the breaker is afterwards.

    While half-open one call passes at a time. A probe whose end nobody tells (its process was
    killed) counts as lost after a longest pause, so that a breaker never stays shut for ever.
    """
    if state.phase is BreakerPhase.CLOSED:
        return state, True
    if state.phase is BreakerPhase.OPEN and now_s < state.until_s:
        return state, False
    if state.phase is BreakerPhase.HALF_OPEN and state.probing and now_s < state.until_s:
        return state, False
    probe = state._replace(
        phase=BreakerPhase.HALF_OPEN, probing=True, until_s=now_s + policy.pause_max_s
    )
    if state.phase is BreakerPhase.OPEN:
        probe = probe._replace(successes=0)
    return probe, True


def note_success(policy: BreakerPolicy, state: BreakerState) -> BreakerState:
    """The breaker after a call that was answered."""
    if state.phase is BreakerPhase.CLOSED:
        return BreakerState()
    if state.phase is BreakerPhase.OPEN:
        return state  # a straggler that had passed before it opened proves nothing about now
    successes = state.successes + 1
    if successes >= policy.successes_to_close:
        return BreakerState()
    return state._replace(successes=successes, probing=False)


def note_failure(
    policy: BreakerPolicy, state: BreakerState, reason: str, now_s: float
) -> BreakerState:
    """The breaker after a transient failure."""
    failures = state.failures + 1
    if state.phase is BreakerPhase.OPEN:
        return state._replace(failures=failures, reason=reason)
    if state.phase is BreakerPhase.CLOSED and failures < policy.failures_to_open:
        return state._replace(failures=failures, reason=reason)
    openings = state.openings + 1
    return BreakerState(
        BreakerPhase.OPEN,
        failures,
        openings=openings,
        until_s=now_s + pause_s(policy, openings),
        reason=reason,
    )


def breaker_findings(statuses: Iterable[BreakerStatus]) -> list[str]:
    """One sentence for each breaker that is not closed, ordered by name, for `status`."""
    return [
        f"{status.name}: circuit {status.phase} in {status.holder} since "
        f"{status.changed_at:%Y-%m-%d %H:%M:%S} UTC after {status.failures} failures: "
        f"{status.reason}"
        for status in sorted(statuses)
        if status.phase is not BreakerPhase.CLOSED
    ]


def breakers_text(statuses: Iterable[BreakerStatus]) -> str:
    """All circuits in one line: which are closed, and which are not; '' when none is known."""
    names: dict[BreakerPhase, set[str]] = {}
    for status in statuses:
        names.setdefault(status.phase, set()).add(status.name)
    told = [
        f"{phase}: {', '.join(sorted(names[phase]))}" for phase in BreakerPhase if phase in names
    ]
    return f"circuits {'; '.join(told)}" if told else ""
