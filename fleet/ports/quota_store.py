"""What bounds networks, where every placer finds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fleet.placement.quotas import NetworkLimits, ResourceUse


class QuotaStore(Protocol):
    """Quotas and limits of networks, and what is in use of them.

    `place_agents` keeps quotas when it is told to (`within_limits`): two placers that have both
    seen the last free place cannot both take it.
    """

    def declare_network_limits(self, limits: Sequence[NetworkLimits]) -> None:
        """Replace all of them: a network that is not named has none any more."""
        ...

    def network_limits(self) -> list[NetworkLimits]:
        """All of them, ordered by network_id."""
        ...

    def network_uses(self, network_ids: Sequence[str]) -> dict[str, ResourceUse]:
        """What the placed agents of these networks are allocated together; absent: nothing.

        An agent counts while it has a node: one that was stopped until it is known to have ended
        there (`release_ended`); parked ones do not. Computed by the database.
        """
        ...
