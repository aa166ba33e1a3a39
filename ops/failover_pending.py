"""How many agents of an incident still have to arrive: what keeps it from ending."""

from dataclasses import dataclass, field

from fleet.failover_moves import PlannedMove, read_plans
from fleet.incidents import IncidentHeader
from fleet.inventory import AgentPhase
from fleet.placement.parking import NO_NODE
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore

_EVERY_S = 0.5
"""Between two looks at the agents of one incident."""

_ARRIVED = frozenset({AgentPhase.RUNNING, AgentPhase.COMPLETED, AgentPhase.STOPPED})


@dataclass(slots=True)
class PendingAgents:
    """Counts them, seldom enough that a big incident does not fill the tick."""

    store: ControlStore
    clock: Clock
    _known: dict[str, tuple[float, int]] = field(default_factory=dict)

    def count(self, incident: IncidentHeader, now_s: float) -> int:
        """Planned agents that neither run where they are placed now nor are parked or stopped."""
        at_s, pending = self._known.get(incident.incident_id, (float("-inf"), 0))
        if now_s - at_s < _EVERY_S:
            return pending
        moves = read_plans(self.store.journal(incident.incident_id))
        pending = self._pending(moves) if moves else 0
        self._known = {
            name: seen for name, seen in self._known.items() if now_s - seen[0] < 60 * _EVERY_S
        }
        self._known[incident.incident_id] = (now_s, pending)
        return pending

    def _pending(self, moves: list[PlannedMove]) -> int:
        wanted = {one.agent_id for one in moves if one.node_id != NO_NODE}
        regions = {one.region for one in moves if one.node_id != NO_NODE}
        seen = {one.agent_id: one for region in regions for one in self.store.agents(region)}
        return sum(
            name in seen and bool(seen[name].node_id) and seen[name].phase not in _ARRIVED
            for name in wanted
        )
