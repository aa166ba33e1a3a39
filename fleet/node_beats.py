"""Signs of life of all nodes as the store holds them, read often and therefore light.

Moments are whole microseconds since 1970 by the store's clock, and only *changes* of them mean
anything to a controller: it counts ages from when it saw a number change, by its own clock.
"""

from __future__ import annotations

from typing import NamedTuple

from fleet.leases import is_fence


class NodeBeat(NamedTuple):
    """One declared node: its last report and its lease, without what the report says."""

    node_id: str
    boot_id: str
    """Of the last report; empty before the first."""
    heartbeat_us: int
    """When the last report was stored; 0 before the first."""
    agents_us: int
    """In that report: when the running agent that has been quiet for longest was last heard of, by
    the node's clock; 0 without a running agent that was."""
    holder: str
    """Boot that holds the node's lease; empty when it was released or never taken, a fence
    (`fleet.leases.is_fence`) when it had run out and was taken away."""
    term: int
    """Of the lease; 0 when it never existed."""
    renewed_us: int
    """When the lease was last renewed; 0 when it never existed."""
    expires_us: int
    """When it ends or has ended; 0 when it never existed."""
    ttl_s: float
    """How long a renewal lasts; 0 when it never existed."""

    @property
    def released(self) -> bool:
        """Whether the node has given its lease up in order, and nobody has taken it since."""
        return self.term > 0 and not self.holder

    @property
    def acting_boot(self) -> str:
        """The boot whose end is the node's end: who holds the lease, or held it until the fence."""
        return self.boot_id if is_fence(self.holder) else self.holder


class NodeWork(NamedTuple):
    """The newest work of the agents that are placed on one node."""

    node_id: str
    worked_us: int
    """Newest of: a state stored under the present epoch (store's clock), an activity (node's)."""


class WorkSeen(NamedTuple):
    """Work of all nodes since a cursor."""

    cursor: int
    """Give it to the next look."""
    nodes: tuple[NodeWork, ...]
    """Nodes with work, ordered by node_id."""
