"""What must be exact now: a port per feature, one database behind all, a cache before it.

The features' ports have modules of their own; who needs one of them alone asks for that one. Their
records are told here, too, because most callers have the whole store.
"""

from __future__ import annotations

from typing import Protocol

from fleet.ports.activity_store import ActivityStore
from fleet.ports.agent_state_store import AgentStateStore, PutResult
from fleet.ports.breaker_store import BreakerStore
from fleet.ports.controller_view_store import ControllerViewStore
from fleet.ports.decided_move_store import DecidedMoveStore
from fleet.ports.home_store import HomeStore
from fleet.ports.incident_store import IncidentStore, PlacementHistoryStore
from fleet.ports.journal_store import JournalStore, LookupStore
from fleet.ports.lease_store import LeaseResult, LeaseStore, LeaseWish
from fleet.ports.node_store import NodeStore, ReportResult
from fleet.ports.observer_store import ObserverStore
from fleet.ports.placement_store import PlacementStore
from fleet.ports.quota_store import QuotaStore
from fleet.ports.scaling_store import ScalingStore
from fleet.ports.service_registry import ServiceRegistry
from fleet.ports.stateless_store import StatelessStore

__all__ = [
    "ActivityStore",
    "AgentStateStore",
    "ControlStore",
    "JournalStore",
    "LeaseResult",
    "LeaseStore",
    "LeaseWish",
    "LookupStore",
    "NodeStore",
    "PlacementStore",
    "PutResult",
    "ReportResult",
]


class ControlStore(
    NodeStore,
    LeaseStore,
    PlacementStore,
    AgentStateStore,
    ActivityStore,
    JournalStore,
    LookupStore,
    ObserverStore,
    HomeStore,
    IncidentStore,
    PlacementHistoryStore,
    ServiceRegistry,
    BreakerStore,
    ControllerViewStore,
    DecidedMoveStore,
    StatelessStore,
    QuotaStore,
    ScalingStore,
    Protocol,
):
    """What must be exact now, in one database (SQLite embedded, PostgreSQL in production)."""

    def ping(self) -> None:
        """Prove that a read and a durable write work.

        Raises:
            StoreUnavailableError: they do not.
        """
        ...

    def close(self) -> None:
        """Release connections."""
        ...
