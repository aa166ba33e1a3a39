"""What routers have in force, as the catalogue shows it; the keeper of routes reports it."""

import dagster as dg

from assets.inventory import CONTROL_STORE
from assets.lake_tables import OWNERS

GROUP = "services"

SERVICE_ROUTES = "service_routes"


def build_routes_spec() -> dg.AssetSpec:
    """The asset that the keeper's evidence belongs to; no job makes it."""
    return dg.AssetSpec(
        SERVICE_ROUTES,
        description=(
            "Where routers send requests: one table of backends per service and router, kept as "
            "the service registry is. Written between failovers by `route_keeper_sensor`, which "
            "reports changes here, once a minute at most; during a failover by its run, told in "
            "the incident."
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"table"},
        deps=[CONTROL_STORE],
    )
