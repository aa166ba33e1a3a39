"""Takes the inventory: reads each region, writes one lake object per table, region and look.

The commit point of a region is `Lake.write`: an op that dies before it leaves nothing, one that
dies after it leaves an object that the next look supersedes. A region that fails does not keep
the others from being written and recorded.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
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


def _look_at_nodes(
    region: str, fleet_observation: FleetObservation, fleet_declaration: FleetDeclaration
) -> Look:
    """The nodes with their last report."""
    seen = fleet_observation.without_agents(region)
    numbers = total_nodes(seen.nodes, seen.observed_at, fleet_declaration.heartbeats)
    return Look(seen.observed_at, seen.nodes, numbers)


def _look_at_gpus(region: str, fleet_observation: FleetObservation) -> Look:
    """The GPUs as their nodes last reported them; also that a region has none."""
    seen = fleet_observation.without_agents(region)
    return Look(seen.observed_at, seen.gpus, total_gpus(seen.gpus))


def _look_at_agents(region: str, fleet_observation: FleetObservation) -> Look:
    """The agents with placement, allocation and what their nodes reported of them."""
    seen = fleet_observation.snapshot(region)
    return Look(seen.observed_at, seen.agents, total_agents(seen.agents, seen.nodes))


def _look_at_states(region: str, control_store: ControlStore, clock: Clock) -> Look:
    """Version, epoch, size and digest of every durable state."""
    observed_at = clock.now()
    states = control_store.state_infos(region)
    return Look(observed_at, states, total_states(states, observed_at))


def _release_agents(fleet_observation: FleetObservation) -> None:
    fleet_observation.release_agents()


def _nothing_left() -> None:
    pass


def _recording_op(
    name: str,
    table: str,
    record: type[Any],
    look: Callable[..., Look],
    description: str,
    *,
    afterwards: Callable[..., None] = _nothing_left,
) -> dg.OpDefinition:
    """An op that records one table.

    Args:
        name: of the op.
        table: to write to.
        record: named tuple of its rows.
        look: reads one region. Its parameters beside `region` name the resources that it needs, as
            those of an op do; the op needs them, lake and clock, and no other.
        description: shown in the UI.
        afterwards: called once everything is recorded; its parameters name resources, too.
    """
    for_look, for_end = _parameters(look) - {"region"}, _parameters(afterwards)

    @dg.op(
        name=name,
        ins=AFTER,
        out=dg.Out(dg.Nothing),
        description=description,
        required_resource_keys={"lake", "clock"} | for_look | for_end,
    )
    def record_op(context: dg.AssetExecutionContext) -> Recorded:
        def having(keys: Iterable[str]) -> dict[str, Any]:
            return {key: getattr(context.resources, key) for key in keys}

        yield from _record_regions(
            context,
            context.resources.lake,
            context.resources.clock,
            table,
            record,
            partial(look, **having(for_look)),
        )
        afterwards(**having(for_end))

    return record_op


def _parameters(function: Callable[..., object]) -> set[str]:
    return set(inspect.signature(function).parameters)


record_nodes_op = _recording_op(
    "record_nodes_op", NODES, Node, _look_at_nodes, "Write the nodes to the lake."
)
record_gpus_op = _recording_op(
    "record_gpus_op", GPUS, Gpu, _look_at_gpus, "Write the GPUs to the lake."
)
record_agents_op = _recording_op(
    "record_agents_op",
    AGENTS,
    Agent,
    _look_at_agents,
    "Write the agents of each region to the lake.",
    afterwards=_release_agents,
)
record_states_op = _recording_op(
    "record_states_op",
    STATES,
    AgentStateInfo,
    _look_at_states,
    "Write the metadata of the agents' states to the lake; never the states.",
)


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
