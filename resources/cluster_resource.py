"""What runs the fleet, as a Dagster resource that looks at it.

A function resource, because it stands on the run's own control store and declaration: a test that
replaces these replaces what the cluster sees, too.
"""

import dagster as dg

from fleet.errors import InvalidInputError
from fleet.ports import FleetReader
from resources.reported_fleet import ReportedFleet

KINDS = ("local", "simulated")


@dg.resource(
    required_resource_keys={"control_store", "fleet_declaration", "clock"},
    config_schema={
        "kind": dg.Field(str, default_value="local", description="local or simulated."),
        "agents_per_node": dg.Field(int, default_value=0, description="Of a simulated fleet."),
    },
    description="What runs the nodes: supervisors that report to the store, or a simulator.",
)
def cluster_resource(context: dg.InitResourceContext) -> FleetReader:
    """A reader of the fleet.

    Raises:
        InvalidInputError: there is no such kind.
    """
    kind = context.resource_config["kind"]
    resources = context.resources
    if kind == "local":
        return ReportedFleet(resources.control_store, resources.clock)
    if kind == "simulated":
        from resources.simulated.reader import simulate_declared

        agents = context.resource_config["agents_per_node"]
        return simulate_declared(resources.fleet_declaration, agents, resources.clock)
    raise InvalidInputError("fleet.cluster", kind, " or ".join(KINDS))
