"""Quotas of networks as a dictionary, with the use counted agent by agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet.agents import Placement
from fleet.placement.quotas import NetworkLimits, ResourceUse, require_quota, validate_limits
from fleet.reports import AgentDeclaration


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

    def _check_quotas(self, before: Mapping[str, ResourceUse]) -> None:
        """Refuse what has passed a quota since `before` was counted."""
        after = self.network_uses(sorted(self._network_limits))
        for name, now in sorted(after.items()):
            had = before.get(name, ResourceUse())
            asked = ResourceUse(*(new - old for new, old in zip(now, had, strict=True)))
            require_quota(had, asked, self._network_limits[name])
