"""Who is away from home, as plain dictionaries; mixed into the fake control store."""

from __future__ import annotations

from collections import Counter
from threading import RLock

from fleet.agents import Placement
from fleet.ports.home_store import PlacementCounts
from fleet.reports import AgentDeclaration


class InMemoryHomes:
    """`fleet.ports.home_store.HomeStore`; needs what the fake store holds beside it."""

    _lock: RLock
    _agents: dict[str, AgentDeclaration]
    _placements: dict[str, Placement]

    def placement_counts(self) -> PlacementCounts:
        """Counted one by one."""
        with self._lock:
            running = [one for one in self._placements.values() if one.desired == "running"]
            away = [one for one in running if self._agents[one.agent_id].region != one.region]
            return PlacementCounts(
                dict(Counter(one.node_id for one in running)),
                dict(Counter(self._agents[one.agent_id].region for one in away)),
                sum(one.desired == "parked" for one in self._placements.values()),
            )

    def unplaced_counts(self) -> dict[tuple[str, str], int]:
        """Looked at one by one."""
        with self._lock:
            found: Counter[tuple[str, str]] = Counter()
            for agent_id, shape in self._agents.items():
                placed = self._placements.get(agent_id)
                if placed is None or placed.desired == "parked":
                    found[shape.network_id, shape.region] += 1
            return dict(found)

    def agents_abroad(self, home: str) -> list[Placement]:
        """Looked at one by one."""
        with self._lock:
            return [
                one
                for one in sorted(self._placements.values())
                if one.desired == "running"
                and self._agents[one.agent_id].region == home != one.region
            ]
