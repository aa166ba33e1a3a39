"""How many agents lie where, and which of them are away from home."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from fleet.agents import Placement


class PlacementCounts(NamedTuple):
    """Where agents are placed, counted by the database."""

    running: Mapping[str, int]
    """Node -> agents that are to run there; nodes without any are left out."""
    abroad: Mapping[str, int]
    """Home region -> its agents that are to run in another region; 0 is left out."""
    parked: int
    """Agents that are placed nowhere because there was no room."""


class HomeStore(Protocol):
    """Placements compared with the region that each agent is declared in."""

    def placement_counts(self) -> PlacementCounts:
        """Counts over all declared agents: milliseconds for 100,000 of them."""
        ...

    def unplaced_counts(self) -> Mapping[tuple[str, str], int]:
        """Declared agents that are to run nowhere, by (network, home region); 0 is left out.

        Those without a placement, and those that are parked; counted by the database.
        """
        ...

    def agents_abroad(self, home: str) -> list[Placement]:
        """Running placements outside of the region that their agents are declared in.

        Args:
            home: region of the declarations.

        Returns:
            Ordered by agent_id.
        """
        ...
