"""How long agents take from their order to readiness, measured by looking at them again and again.

A start is dated from the placement that ordered it, by the look that first finds the agent ready:
a measurement is late by up to one look, never early. Only who has not been reported under its epoch
begins a start: a restart on the same node, or a node that was silent for a while, is none. What
became ready between two looks of different controllers is not measured.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from fleet.inventory import AgentPhase
from fleet.rescaling.pods import WorkloadAgents
from fleet.rescaling.standing import ScaledAgent

STARTS_MAX = 200
"""Newest starts of a workload that count."""


class Starts(NamedTuple):
    """What is known of the starts of one workload in one region."""

    waiting: frozenset[tuple[str, int]] = frozenset()
    """Agent and epoch of those that had begun and were not ready yet at the last look."""
    measured_s: tuple[float, ...] = ()
    """Oldest first."""


def watch_starts(before: Starts, agents: WorkloadAgents, now: datetime) -> Starts:
    """Take one look in.

    Args:
        before: what earlier looks have found.
        agents: of the workload, now.
        now: moment of the look.
    """
    waiting = frozenset(
        _start_of(one)
        for one in agents.not_ready
        if one.placement is not None
        and one.placement.node_id
        and (one.agent.phase is AgentPhase.PENDING or _start_of(one) in before.waiting)
    )
    done = before.waiting - waiting
    if not done:
        return Starts(waiting, before.measured_s)
    found = [
        (now - one.placement.updated_at).total_seconds()
        for one in agents.wanted
        if one.placement is not None and _start_of(one) in done and one.placement.node_id
    ]
    measured_s = (*before.measured_s, *(max(0.0, one) for one in found))
    return Starts(waiting, measured_s[-STARTS_MAX:])


def _start_of(one: ScaledAgent) -> tuple[str, int]:
    return one.agent.agent_id, one.agent.epoch
