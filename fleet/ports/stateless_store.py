"""Agents that failover may move before their node is fenced, as the store knows them now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class StatelessStore(Protocol):
    """Which agents may run twice for a while.

    An agent may when its workload is declared `stateless`, it is placed to run, no state of it is
    stored, and it holds no lease. Everybody else waits for the fence.
    """

    def stateless_counts(self, node_ids: Sequence[str]) -> dict[str, int]:
        """How many such agents are placed on these nodes; nodes without any are left out.

        One aggregated query, for the nodes that are in doubt: a healthy fleet costs nothing.
        """
        ...

    def stateless_agents(self, node_ids: Sequence[str]) -> list[str]:
        """Their names, sorted."""
        ...
