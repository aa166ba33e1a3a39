"""The inventory of the fleet: four tables, one partition for each region.

One run takes all regions. The rows lie in the lake; the materializations carry their numbers, a
preview, and the key and checksum of the object.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.lake_tables import OWNERS, beside, describe_table, with_freshness
from ops.inventory import (
    AGENTS,
    GPUS,
    NODES,
    STATES,
    record_agents_op,
    record_gpus_op,
    record_nodes_op,
    record_states_op,
)

GROUP = "inventory"
DECLARATION, CONTROL_STORE = "fleet_declaration", "control_store"

FRESHNESS = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(minutes=6), warn_window=timedelta(minutes=4)
)
"""The inventory is taken every two minutes, or at once when a node changes."""

CODE_VERSION = "1"
"""Of the columns and their meaning; raised when either changes."""

DESCRIPTIONS = {
    NODES: (
        "Every node of the fleet, with capacity, phase and last heartbeat.\n\n"
        "Grain: one row per node and look. Source: the nodes' own reports. "
        "Freshness: within seconds of a change of any node, every two minutes without one."
    ),
    GPUS: (
        "Every GPU as its node last saw it: memory, load, temperature, errors.\n\n"
        "Grain: one row per GPU (or MIG instance) and look; a reading that the driver refused is "
        "empty, never zero. Source: the nodes' own reports, of the same look as `node_inventory`."
    ),
    AGENTS: (
        "Every agent: where it is placed, what it is allocated, what its node reports of it.\n\n"
        "Grain: one row per agent and look. Source: declarations and placements of the control "
        "store, joined with the nodes' reports, of the same look as `node_inventory`."
    ),
    STATES: (
        "What is durably stored of every agent: version, epoch, size, SHA-256. Never the bytes.\n\n"
        "Grain: one row per agent that has a state, and look. Source: the control store."
    ),
}


def build_external_specs() -> list[dg.AssetSpec]:
    """What the inventory is made from, and Dagster does not make."""
    return [
        dg.AssetSpec(
            DECLARATION,
            description="stateroom.toml: regions, nodes, networks and workloads as declared.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"toml"},
        ),
        dg.AssetSpec(
            CONTROL_STORE,
            description=(
                "What must be exact now: reports, leases, placements, agent states. Written by "
                "the nodes' supervisors and by controllers, at every heartbeat."
            ),
            group_name=GROUP,
            owners=OWNERS,
            kinds={"sqlalchemy"},
            deps=[DECLARATION],
        ),
    ]


def build_inventory_assets(regions: Sequence[str]) -> list[dg.AssetsDefinition]:
    """The four tables, in the order of their lineage.

    Args:
        regions: names of the partitions; sorted, so that the first and the last span all.
    """
    partitions = dg.StaticPartitionsDefinition(list(regions))

    @dg.graph_asset(**_catalogue(NODES, partitions), ins=beside(DECLARATION, CONTROL_STORE))
    def node_inventory(fleet_declaration: Any, control_store: Any) -> Any:
        return record_nodes_op([fleet_declaration, control_store])

    @dg.graph_asset(**_catalogue(GPUS, partitions, "nvidia"), ins=beside(NODES))
    def gpu_inventory(node_inventory: Any) -> Any:
        return record_gpus_op(node_inventory)

    @dg.graph_asset(**_catalogue(AGENTS, partitions), ins=beside(NODES))
    def agent_inventory(node_inventory: Any) -> Any:
        return record_agents_op(node_inventory)

    @dg.graph_asset(**_catalogue(STATES, partitions), ins=beside(AGENTS))
    def agent_states(agent_inventory: Any) -> Any:
        return record_states_op(agent_inventory)

    tables = [node_inventory, gpu_inventory, agent_inventory, agent_states]
    return with_freshness(tables, FRESHNESS)


def _catalogue(name: str, partitions: dg.PartitionsDefinition[str], *kinds: str) -> dict[str, Any]:
    return describe_table(name, DESCRIPTIONS[name], GROUP, partitions, CODE_VERSION, *kinds)
