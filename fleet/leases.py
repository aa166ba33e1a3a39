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


def node_lease_name(node_id: str) -> str:
    """Name of the lease that a node's supervisor holds while it serves."""
    return f"node/{node_id}"
