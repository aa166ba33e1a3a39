"""A short window that may only raise: a queue that explodes is not averaged away.

While the short window asks for a multiple of the replicas that are ready, the count follows it at
once, past the limits on growth, and nothing is removed until the panic is over for one stable
window.

Source: Knative Serving, `pkg/autoscaler/scaling/autoscaler.go`, `Scale`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

from fleet.rescaling.decision import AppliedRule
from fleet.rescaling.memory import count_in, moment_in, moment_text, note, recall
from fleet.rescaling.policy import Panic

RULE = "panic"


class Panicked(NamedTuple):
    """What a panic makes of a count."""

    replicas: int
    memory: str
    rule: AppliedRule | None
    panics: bool


class _Memory(NamedTuple):
    since: datetime | None
    """When the threshold was last reached; None: no panic."""
    most: int
    """Highest count of this panic."""
    recent: tuple[tuple[datetime, int], ...]
    """What the metrics asked for within the short window."""


def decide_panic(
    policy: Panic,
    details: Mapping[str, str],
    now: datetime,
    asked: int | None,
    counts: tuple[int, int, int],
) -> Panicked:
    """What the short window makes of a count.

    Args:
        policy: windows and threshold.
        details: what the rules remember.
        now: time of the reconcile.
        asked: by the queue's metrics, before any limit; None when they cannot be had.
        counts: replicas that are wanted so far, that are decided up to here, and that are ready.

    Raises:
        InvalidInputError: what was remembered is damaged.
    """
    current, desired, ready = counts
    before = _recalled(details)
    recent = _within(before.recent, now - timedelta(seconds=policy.window_s), (now, asked))
    ready = max(ready, 1)
    short = _mean(recent)
    over = short / ready >= policy.threshold
    since = now if over else before.since
    if since is not None and since + timedelta(seconds=policy.stable_window_s) < now:
        since = None
    if since is None:
        return Panicked(desired, _noted(_Memory(None, 0, recent)), None, panics=False)
    allowed = min(short, ceil(policy.rate_up_max * ready))
    most = max(before.most if before.since is not None else 0, desired, allowed)
    replicas = max(most, current)
    memory = _noted(_Memory(since, most, recent))
    why = (
        f"{policy.window_s} s ask for {short} with {ready} ready"
        if over
        else f"nothing is removed until {policy.stable_window_s} s after {since.isoformat()}"
    )
    return Panicked(replicas, memory, AppliedRule(RULE, desired, replicas, why), panics=True)


def _within(
    recent: tuple[tuple[datetime, int], ...], since: datetime, newest: tuple[datetime, int | None]
) -> tuple[tuple[datetime, int], ...]:
    """What was asked for within a window, the newest last."""
    kept = tuple(one for one in recent if one[0] > since)
    now, asked = newest
    return kept if asked is None else (*kept, (now, asked))


def _mean(recent: tuple[tuple[datetime, int], ...]) -> int:
    """The average of the short window, rounded up; 0 of nothing."""
    return ceil(sum(asked for _, asked in recent) / len(recent)) if recent else 0


def _recalled(details: Mapping[str, str]) -> _Memory:
    memory = recall(details, RULE)
    if memory is None:
        return _Memory(None, 0, ())
    rows = memory.get("recent", ())
    recent = []
    for row in rows:
        at = moment_in(RULE, row, "at")
        assert at is not None, "noted with each count"
        recent.append((at, count_in(RULE, row, "asked")))
    since = moment_in(RULE, memory, "since")
    return _Memory(since, count_in(RULE, memory, "most"), tuple(recent))


def _noted(memory: _Memory) -> str:
    rows = [{"at": moment_text(at), "asked": asked} for at, asked in memory.recent]
    return note({"since": moment_text(memory.since), "most": memory.most, "recent": rows})
