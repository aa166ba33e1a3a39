"""Which agents go first when there are to be fewer: those whose end costs least.

Kubernetes' order of deletion, as far as an agent has such things, and two more reasons of our own.
One after another, the first that differs decides:

1. not placed, or parked: there is nothing to stop;
2. not ready;
3. younger, by powers of two of its age in seconds: a difference of seconds between agents that are
   hours old says nothing, and would keep the later reasons from ever being asked;
4. fewer open sessions; one whose sessions nobody knows goes after those that are known;
5. on the GPU node with most of its GPUs free: it is the nearest to being whole again;
6. the later name, so that equal plans are made by whoever plans.

Source: Kubernetes v1.36, `pkg/controller/controller_utils.go`, `ActivePodsWithRanks` with
LogarithmicScaleDown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple


class StopFacts(NamedTuple):
    """What is known of one agent that may have to go."""

    placed: bool = True
    """It has a node: there is something to stop."""
    ready: bool = True
    started_at: datetime | None = None
    """Start of its process; None when it does not run."""
    sessions: int | None = None
    """Open now; None when nobody knows."""
    gpu_free_milli: int = 0
    """Thousandths of GPUs that are free on its node; 0 for a node without GPUs."""


UNKNOWN = StopFacts()


def order_stops(
    agent_ids: Iterable[str], facts: Mapping[str, StopFacts], now: datetime
) -> list[str]:
    """All given agents, those that go first in front.

    Args:
        agent_ids: that may go.
        facts: of each; one that is absent counts as placed, ready and old.
        now: ages are counted to here.
    """
    names = sorted(agent_ids, reverse=True)  # stable: the last reason of all
    return sorted(names, key=lambda agent_id: _cost(facts.get(agent_id, UNKNOWN), now))


def _cost(facts: StopFacts, now: datetime) -> tuple[bool, bool, float, float, int]:
    """What its end costs; the lowest goes first."""
    sessions = math.inf if facts.sessions is None else float(facts.sessions)
    return (
        facts.placed,
        facts.ready,
        _age_rank(facts.started_at, now),
        sessions,
        -facts.gpu_free_milli,
    )


def _age_rank(started_at: datetime | None, now: datetime) -> float:
    """Powers of two of its age in seconds; without a start it is as old as can be."""
    if started_at is None:
        return math.inf
    age_s = max(0.0, (now - started_at).total_seconds())
    return math.floor(math.log2(age_s)) if age_s >= 1.0 else 0.0
