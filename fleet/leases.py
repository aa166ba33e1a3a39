"""Leases: who may act for a name, until when, under which term.

The term is the fencing token of the lease: it rises by one with each change of holder, so an
executor can refuse the orders of a holder that has been replaced.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Lease(NamedTuple):
    """One lease as the store holds it; times are the store's."""

    name: str
    holder: str
    term: int
    ttl_s: float
    renewed_at: datetime
    expires_at: datetime


def is_lease_live(lease: Lease, now: datetime) -> bool:
    """Tell whether the holder still has the right to act at `now` (the end is exclusive)."""
    return now < lease.expires_at


LEADER_LEASE = "controller"
"""Name of the lease whose holder alone may move agents; its term goes into every such order."""


RESCALING_LEASE = "rescaling"
"""Name of the lease whose holder alone may scale; a controller of its own, with its own term."""


def node_lease_name(node_id: str) -> str:
    """Name of the lease that a node's supervisor holds while it serves."""
    return f"node/{node_id}"


def is_fence(holder: str) -> bool:
    """Whether a lease's holder stands for a fence (`fence_nodes`); no boot is called like that."""
    return holder.startswith("fenced under ")


class FenceTimes(NamedTuple):
    """When a node that cannot renew its lease stops its own agents.

    Both are counted from the moment the last renewal that succeeded was *sent*: the store has
    dated the lease later than that, so the agents are gone before it runs out there.
    """

    stop_after_s: float
    """Agents are asked to stop (SIGTERM)."""
    kill_after_s: float
    """Agents are killed, by a process that needs neither the store nor the supervisor."""


def fence_times(ttl_s: float) -> FenceTimes:
    """Divide a lease's time to live: three fifths for renewals, one for stopping, one in reserve.

    The reserve covers what a machine under load adds: a late timer, the kernel ending processes.

    Args:
        ttl_s: of the lease, seconds, positive.
    """
    return FenceTimes(stop_after_s=0.6 * ttl_s, kill_after_s=0.8 * ttl_s)
