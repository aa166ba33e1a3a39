"""What is declared of agents, and which node each belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fleet.agents import Placement, Workload
from fleet.inventory import Agent
from fleet.reports import AgentDeclaration


class PlacementStore(Protocol):
    """Declared agents and the node each belongs to; the epoch lives here."""

    def declare_workloads(self, workloads: Sequence[Workload]) -> None:
        """Insert or update workload specifications."""
        ...

    def workloads(self) -> list[Workload]:
        """All workload specifications, ordered by name."""
        ...

    def declare_agents(self, agents: Sequence[AgentDeclaration]) -> None:
        """Insert or update agents; placements of known agents stay."""
        ...

    def retire_agents(self, agent_ids: Sequence[str]) -> None:
        """Remove agents that are no longer declared, with their placements; states stay."""
        ...

    def place_agents(
        self,
        placements: Sequence[Placement],
        *,
        leader_term: int | None = None,
        within_limits: bool = False,
    ) -> list[Placement]:
        """Compare-and-swap placements in one transaction.

        Each given placement carries the epoch it was planned on (0: not placed yet). It is
        stored with that epoch + 1 when the stored epoch is the same and the stored term is not
        higher; else it is left alone. So is an agent that is not declared. An agent that was
        retired and declared again is planned on epoch 0, and goes on above its last epoch.

        With `leader_term` the whole batch is refused unless that term leads at this moment: the
        leader lease is locked, judged by the store's clock and kept until the commit. What a leader
        does who was paused past its lease is refused here, whatever its own clock says.

        With `within_limits` what has become impossible since it was planned is left alone, too:
        placements on a node that is not declared any more, all those on a node whose capacity they
        would overdraw together, and those of a network that they would take past its quota. Use is
        counted inside the transaction, so that two placers that have seen the same free place
        cannot both have it.

        Returns:
            The placements that were stored, with their new epochs.

        Raises:
            LeaseLostError: `leader_term` does not lead (any more); nothing was stored.
            InvalidInputError: a placement carries another term than `leader_term`.
        """
        ...

    def placements(self, node_id: str | None = None, region: str | None = None) -> list[Placement]:
        """Placements, ordered by agent_id; of one node or region when given."""
        ...

    def agents(self, region: str | None = None) -> list[Agent]:
        """Agents joined with placements and node reports (see `merge_agents`), by agent_id.

        Declared agents without a placement are PENDING at epoch 0 on node ''. A node is silent
        when it has reported, and its lease has expired by the store's clock or was released.
        """
        ...
