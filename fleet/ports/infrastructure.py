"""What runs below the nodes, and what it says of each: the one source that can be definite."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from fleet.inventory import NodePhase


class InfrastructureVerdict(NamedTuple):
    """What the infrastructure says of one node.

    Only TERMINATED and STOPPED say something for certain, and only of the boot that they name:
    compare it with the boot that holds the node's lease. RUNNING proves nothing.
    """

    node_id: str
    phase: NodePhase
    boot_id: str
    """Of the boot that it speaks of; empty where it knows none."""
    at: datetime | None
    """Of TERMINATED and STOPPED: when that was so at the latest, by the wall clock of the reader's
    machine; None for every other phase."""
    detail: str
    """What was seen, in words."""


class InfrastructureReader(Protocol):
    """Asks the machinery that runs the nodes: the process table, a cloud's API, Kubernetes."""

    def verdicts(self, node_ids: Sequence[str] | None = None) -> list[InfrastructureVerdict]:
        """What it says of these nodes (None: of all that it knows), ordered by node_id.

        Nodes that it does not know are UNKNOWN, when they were named.
        """
        ...
