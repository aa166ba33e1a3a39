"""What runs the fleet, as a Dagster resource that looks at it.

A function resource, because it stands on the run's own control store and declaration: a test that
replaces these replaces what the cluster sees, too.
"""

from pathlib import Path

import dagster as dg

from fleet.errors import InvalidInputError
from fleet.ports.cluster import FleetScaler
from resources.reported_fleet import ReportedFleet

KINDS = ("local", "simulated")


@dg.resource(
    required_resource_keys={"control_store", "clock"},
    config_schema={
        "kind": dg.Field(str, description="local or simulated."),
        "state_dir": dg.Field(str, description="State folder of a local cluster."),
    },
    description="Looks at the fleet: this machine's processes, or what a simulator reports.",
)
def cluster_resource(context: dg.InitResourceContext) -> FleetScaler:
    """A reader of the fleet.

    A local cluster also sees which nodes' processes have vanished. A simulator is a process that
    reports into the control store, so the store alone is asked.

    Raises:
        InvalidInputError: there is no such kind.
    """
    kind = context.resource_config["kind"]
    store, clock = context.resources.control_store, context.resources.clock
    if kind == "local":
        from resources.local.local_cluster import LocalCluster

        return LocalCluster(store, Path(context.resource_config["state_dir"]), clock)
    if kind == "simulated":
        return ReportedFleet(store, clock)
    raise InvalidInputError("fleet.cluster", kind, " or ".join(KINDS))
