"""The control store on SQL, composed of its features."""

from __future__ import annotations

from resources.control_store.activities import SqlActivities
from resources.control_store.breakers import SqlBreakers
from resources.control_store.controller_view import SqlControllerView
from resources.control_store.decided_moves import SqlDecidedMoves
from resources.control_store.fleet_views import SqlFleetViews
from resources.control_store.gpu_leases import SqlGpuLeases
from resources.control_store.homes import SqlHomes
from resources.control_store.incidents import SqlIncidents
from resources.control_store.journal import SqlJournal
from resources.control_store.leadership import SqlLeadership
from resources.control_store.leases import SqlLeases
from resources.control_store.lookups import SqlLookups
from resources.control_store.nodes import SqlNodes
from resources.control_store.notes_log import SqlNotesLog
from resources.control_store.observers import SqlObservers
from resources.control_store.operator_orders import SqlOperatorOrders
from resources.control_store.placement_history import SqlPlacementHistory
from resources.control_store.placements import SqlPlacements
from resources.control_store.quotas import SqlQuotas
from resources.control_store.releases import SqlReleases
from resources.control_store.roster import SqlRoster
from resources.control_store.scaling import SqlScaling
from resources.control_store.scaling_orders import SqlScalingOrders
from resources.control_store.schema import store_properties
from resources.control_store.services import SqlServices
from resources.control_store.state_cuts import SqlStateCuts
from resources.control_store.stateless import SqlStateless
from resources.control_store.states import SqlStates


class SqlControlStore(
    SqlNodes,
    SqlLeases,
    SqlPlacements,
    SqlReleases,
    SqlPlacementHistory,
    SqlFleetViews,
    SqlHomes,
    SqlStates,
    SqlStateCuts,
    SqlActivities,
    SqlNotesLog,
    SqlJournal,
    SqlLookups,
    SqlObservers,
    SqlRoster,
    SqlLeadership,
    SqlIncidents,
    SqlOperatorOrders,
    SqlServices,
    SqlBreakers,
    SqlControllerView,
    SqlDecidedMoves,
    SqlStateless,
    SqlQuotas,
    SqlScaling,
    SqlScalingOrders,
    SqlGpuLeases,
):
    """`fleet.ports.ControlStore` on SQLite or PostgreSQL; safe for threads and many processes.

    A child made by fork must not use its parent's store: it opens one of its own.
    """

    def ping(self) -> None:
        """Prove that a read and a durable write work."""
        with self._database.write() as connection:
            now = str(self._database.dialect.now_us(connection))
            connection.execute(
                self._database.upsert(store_properties), {"name": "pinged_at", "value": now}
            )

    def close(self) -> None:
        """Release connections."""
        self._database.close()
