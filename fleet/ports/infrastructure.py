"""What runs below the nodes, and what it says of each: the one source that can be definite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

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


@runtime_checkable
class NodeFencer(Protocol):
    """Ends nodes from below, whether or not they answer: what nobody can ask is killed.

    Ending a node takes writers away and adds none, so it can never make two copies of an agent; but
    it stops what runs there. Callers therefore name only boots that a person has forced away, or
    that hold back the whole fleet (`fleet.frozen_writers`).
    """

    def fence(self, boots: Mapping[str, str]) -> list[InfrastructureVerdict]:
        """End these boots; returns once nothing of them is left, or after a few seconds.

        Idempotent. A node that has booted again since, or whose process number now belongs to a
        stranger, is not touched. It neither reads nor writes the control store.

        Args:
            boots: node_id -> the boot that is to end.

        Returns:
            One verdict for each node, ordered by node_id: TERMINATED or STOPPED when nothing of the
            boot is left; UNKNOWN, with what is there instead, when that is not certain.
        """
        ...
