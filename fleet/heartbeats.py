"""Is a node alive? Judged from the age of its heartbeat, never from what its machine claims.

The infrastructure's phase only decides the cases where no heartbeat can be expected: a node that
was stopped on request, one that has not started yet, one that is gone for certain.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.inventory import Node, NodePhase


class Readiness(StrEnum):
    """What the heartbeat says of a node."""

    READY = "ready"
    LATE = "late"
    LOST = "lost"
    PENDING = "pending"
    """Declared, has never sent a heartbeat."""
    STOPPED = "stopped"
    """Stopped on request; no heartbeat is expected."""


@dataclass(frozen=True, slots=True)
class HeartbeatPolicy:
    """How old a heartbeat may be: from `late_s` on a node is late, from `lost_s` on it is lost.

    Raises:
        InvalidInputError: not 0 < late_s < lost_s.
    """

    late_s: float = 5.0
    lost_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse thresholds that would make a class empty or unreachable."""
        if not self.late_s > 0.0:
            raise InvalidInputError("heartbeat_late_s", self.late_s, "seconds greater than 0")
        if not self.lost_s > self.late_s:
            allowed = f"seconds greater than heartbeat_late_s ({self.late_s:g})"
            raise InvalidInputError("heartbeat_lost_s", self.lost_s, allowed)


class HeartbeatVerdict(NamedTuple):
    """Readiness of one node, with what it was judged from."""

    readiness: Readiness
    age_s: float | None
    """Never negative; None when the node has never sent a heartbeat."""
    skew_s: float
    """How far the heartbeat lies in the future; 0.0 when it does not."""


def classify_heartbeat(node: Node, now: datetime, policy: HeartbeatPolicy) -> HeartbeatVerdict:
    """Say whether a node is ready, late, lost, pending or stopped.

    A heartbeat from the future (clocks differ) counts as age 0, and the difference is reported: it
    must not make a dead node look alive for longer than the clocks are apart.

    Args:
        node: as last observed.
        now: the observer's time, aware UTC.
        policy: the ages in seconds.
    """
    age_s, skew_s = None, 0.0
    if node.heartbeat_at is not None:
        raw_s = (now - node.heartbeat_at).total_seconds()
        age_s, skew_s = max(raw_s, 0.0), max(-raw_s, 0.0)
    return HeartbeatVerdict(_readiness(node.phase, age_s, policy), age_s, skew_s)


def _readiness(phase: NodePhase, age_s: float | None, policy: HeartbeatPolicy) -> Readiness:
    if phase == NodePhase.STOPPED:
        return Readiness.STOPPED
    if phase == NodePhase.TERMINATED:
        return Readiness.LOST
    if age_s is None:
        return Readiness.PENDING
    if age_s >= policy.lost_s:
        return Readiness.LOST
    return Readiness.LATE if age_s >= policy.late_s else Readiness.READY
