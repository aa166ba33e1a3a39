"""Takes the inventory: reads each region, writes one lake object per table, region and look.

The commit point of a region is `Lake.write`: an op that dies before it leaves nothing, one that
dies after it leaves an object that the next look supersedes. A region that fails does not keep
the others from being written and recorded.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import dagster as dg

from fleet.declaration import FleetDeclaration
from fleet.inventory import Agent, AgentStateInfo, Gpu, Node
from fleet.inventory_totals import (
    Numbers,
    total_agents,
    total_gpus,
    total_nodes,
    total_states,
)
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from ops.bulk import collector_paused
from ops.evidence import column_schema, number_evidence, object_evidence, table_preview
from ops.partitions import Recorded, record_partitions
from resources.observation import FleetObservation

NODES, GPUS, AGENTS, STATES = "node_inventory", "gpu_inventory", "agent_inventory", "agent_states"
"""Tables of the lake; the assets have the same names."""

TABLES = (NODES, GPUS, AGENTS, STATES)

AFTER = {"after": dg.In(dg.Nothing)}
"""An op that starts when what stands before it in the lineage is done, and takes no data from it:
rows travel through the lake."""


class Look(NamedTuple):
    """What one table holds of one region."""

    observed_at: datetime
    records: Sequence[Any]
    numbers: Numbers


@dg.op(ins=AFTER, out=dg.Out(dg.Nothing), description="Write the nodes to the lake.")
def record_nodes_op(
    context: dg.AssetExecutionContext,
    fleet_observation: dg.ResourceParam[FleetObservation],
    fleet_declaration: dg.ResourceParam[FleetDeclaration],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Record the nodes with their last report."""

    def look(region: str) -> Look:
        seen = fleet_observation.without_agents(region)
        numbers = total_nodes(seen.nodes, seen.observed_at, fleet_declaration.heartbeats)
        return Look(seen.observed_at, seen.nodes, numbers)

    yield from _record_regions(context, lake, clock, NODES, Node, look)


@dg.op(ins=AFTER, out=dg.Out(dg.Nothing), description="Write the GPUs to the lake.")
def record_gpus_op(
    context: dg.AssetExecutionContext,
    fleet_observation: dg.ResourceParam[FleetObservation],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Record the GPUs as their nodes last reported them; also that a region has none."""

    def look(region: str) -> Look:
        seen = fleet_observation.without_agents(region)
        return Look(seen.observed_at, seen.gpus, total_gpus(seen.gpus))

    yield from _record_regions(context, lake, clock, GPUS, Gpu, look)


@dg.op(
    ins=AFTER, out=dg.Out(dg.Nothing), description="Write the agents of each region to the lake."
)
def record_agents_op(
    context: dg.AssetExecutionContext,
    fleet_observation: dg.ResourceParam[FleetObservation],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Record the agents with placement, allocation and what their nodes reported of them."""

    def look(region: str) -> Look:
        seen = fleet_observation.snapshot(region)
        return Look(seen.observed_at, seen.agents, total_agents(seen.agents, seen.nodes))

    yield from _record_regions(context, lake, clock, AGENTS, Agent, look)
    fleet_observation.release_agents()


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Write the metadata of the agents' states to the lake; never the states.",
)
def record_states_op(
    context: dg.AssetExecutionContext,
    control_store: dg.ResourceParam[ControlStore],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Record version, epoch, size and digest of every durable state."""

    def look(region: str) -> Look:
        observed_at = clock.now()
        states = control_store.state_infos(region)
        return Look(observed_at, states, total_states(states, observed_at))

    yield from _record_regions(context, lake, clock, STATES, AgentStateInfo, look)


def _record_regions(
    context: dg.AssetExecutionContext,
    lake: Lake,
    clock: Clock,
    table: str,
    record: type[Any],
    look: Callable[[str], Look],
) -> Recorded:
    """Record each region of the run; a failed one fails the run after the others are recorded."""
    yield from record_partitions(
        context,
        table,
        "region",
        lambda region: _record_region(lake, clock, table, record, region, look),
    )


def _record_region(
    lake: Lake,
    clock: Clock,
    table: str,
    record: type[Any],
    region: str,
    look: Callable[[str], Look],
) -> dict[str, Any]:
    """Write one region's rows; returns what the materialization shows of them."""
    from resources.lake.records import to_table

    started_s = clock.monotonic_s()
    with collector_paused():
        seen = look(region)
        committed = lake.write(table, region, to_table(seen.records, record), seen.observed_at)
    return {
        **object_evidence(committed),
        **number_evidence(seen.numbers),
        "seconds_taken": round(clock.monotonic_s() - started_s, 3),
        "dagster/table_name": table,
        "dagster/column_schema": column_schema(record),
        "preview": table_preview(seen.records, record._fields),
    }
