"""What a failover run touches, and what it says while it runs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fleet.agents import Placement
from fleet.failover_order import FailoverOrder
from fleet.ports.clock import PatientClock
from fleet.ports.cluster import FleetReader
from fleet.ports.control_store import ControlStore
from fleet.ports.infrastructure import NodeFencer
from fleet.ports.service_registry import ServiceRegistry
from fleet.ports.state_rescue import StateRescue
from fleet.ports.traffic import ConfiguredRouter
from fleet.service_health import ServicePolicy
from ops.step_journal import StepJournal


class TrafficPorts(NamedTuple):
    """What a run needs to send requests elsewhere."""

    registry: ServiceRegistry
    routers: tuple[ConfiguredRouter, ...]
    policy: ServicePolicy


class FailoverPorts(NamedTuple):
    """The world of a failover run."""

    store: ControlStore
    cluster: FleetReader
    """Says which nodes' processes have vanished."""
    clock: PatientClock
    nudge: Callable[[Sequence[Placement]], None]
    """Lets the nodes know of placements that are in force, sooner than they would find out."""
    evict: Callable[[str, int, float], None]
    """Stops one agent of an epoch in order, within a grace period in seconds."""
    rescue: StateRescue | None = None
    """None: there are no backups; a state that the store has lost is lost."""
    traffic: TrafficPorts | None = None
    """None: nothing is sent to these agents."""

    fencer: NodeFencer | None = None
    """None: a node that a person forces away and that cannot be asked is waited for."""

    def journal(self, order: FailoverOrder) -> StepJournal:
        """The journal of the order's incident."""
        return StepJournal(self.store, self.clock, order.incident_id, order.subject)
