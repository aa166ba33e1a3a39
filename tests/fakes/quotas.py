"""Quotas of networks as a dictionary, with the use counted agent by agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet.agents import Placement
from fleet.placement.quotas import NetworkLimits, ResourceUse, validate_limits
from fleet.placement.requests import AgentSize, size_of
from fleet.placement.validation import select_possible
from fleet.reports import AgentDeclaration, NodeDeclaration


class InMemoryQuotas:
    """`fleet.ports.QuotaStore` over the agents and placements of the store that it is part of."""

    _agents: dict[str, AgentDeclaration]
    _placements: dict[str, Placement]

    def __init__(self) -> None:
        """No network has limits."""
        self._network_limits: dict[str, NetworkLimits] = {}

    def declare_network_limits(self, limits: Sequence[NetworkLimits]) -> None:
        """Replace all of them."""
        self._network_limits = {one.network_id: validate_limits(one) for one in limits}

    def network_limits(self) -> list[NetworkLimits]:
        """All of them, ordered by network_id."""
        return [self._network_limits[name] for name in sorted(self._network_limits)]

    def network_uses(self, network_ids: Sequence[str]) -> dict[str, ResourceUse]:
        """What their placed agents are allocated together."""
        uses: dict[str, ResourceUse] = {}
        for placed in self._placements.values():
            shape = self._agents[placed.agent_id]
            if placed.node_id and shape.network_id in network_ids:
                before = uses.get(shape.network_id, ResourceUse())
                uses[shape.network_id] = before.plus(shape)
        return uses

    def _within_limits(
        self, batch: Sequence[Placement], declared: Mapping[str, NodeDeclaration]
    ) -> list[Placement]:
        """What nodes and quotas have room for."""
        uses: dict[str, AgentSize] = {}
        for one in self._placements.values():
            had = uses.get(one.node_id, AgentSize(0, 0))
            size = size_of(self._agents[one.agent_id])
            uses[one.node_id] = AgentSize(*(a + b for a, b in zip(had, size, strict=True)))
        in_use = self.network_uses(sorted(self._network_limits))
        return select_possible(
            batch,
            self._agents,
            {one.agent_id: (one.node_id, one.epoch) for one in self._placements.values()},
            {name: (node, uses.get(name, AgentSize(0, 0))) for name, node in declared.items()},
            {
                name: (one, in_use.get(name, ResourceUse()))
                for name, one in self._network_limits.items()
            },
        )
