"""Claims about the inventory, each judged on the newest rows of all regions.

A check reads what was written, not what the run meant to write: a lost or damaged object is
therefore found here. One step per table reads it once and judges all its claims.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from fleet.declaration import FleetDeclaration
from fleet.declared_checks import check_declared, check_declared_agents
from fleet.inventory import Agent, AgentStateInfo, Gpu, Node
from fleet.inventory_checks import (
    CheckVerdict,
    Offender,
    check_allocations,
    check_gpu_health,
    check_heartbeats,
    check_known_nodes,
    check_unique,
)
from fleet.ports.lake import Lake
from ops.evidence import check_result
from ops.inventory import AGENTS, GPUS, NODES, STATES
from ops.inventory_reads import qualify, read_inventory
from ops.outcomes import outcomes

CLAIMS = {
    NODES: {
        "no_two_nodes_share_an_id": "No node id occurs twice, in one region or across regions.",
        "every_node_heartbeat_is_recent": "Every node that should be up is neither late nor lost.",
        "nodes_are_as_declared": "No node is missing, undeclared, or of another shape.",
    },
    GPUS: {
        "no_two_gpus_share_a_uuid": "No GPU is reported by two nodes.",
        "every_gpu_is_healthy": "Every declared GPU is there and fit for work.",
    },
    AGENTS: {
        "no_two_agents_share_an_id": "No agent id occurs twice, in one region or across regions.",
        "every_agent_is_on_a_known_node": "Every agent's node is in the inventory of its region.",
        "allocations_fit_every_node": "No node has given its agents more than it has.",
        "agents_are_as_declared": "No workload has too few or too many agents, or is undeclared.",
    },
    STATES: {
        "no_two_states_share_an_agent": "No agent has two states, in one region or across regions.",
    },
}
"""Table -> claim -> what it means."""

Verdicts = Iterator[dg.AssetCheckResult]


def build_inventory_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of all four tables; none blocks, because a bad inventory is still worth having."""
    return [_node_checks(), _gpu_checks(), _agent_checks(), _state_checks()]


def _specs(table: str) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=table, description=meaning, blocking=False)
        for name, meaning in CLAIMS[table].items()
    ]


def _results(
    context: dg.AssetCheckExecutionContext,
    table: str,
    verdicts: dict[str, CheckVerdict],
    unread: Sequence[Offender],
) -> Verdicts:
    """Results of the claims that this run selected."""
    for name, verdict in verdicts.items():
        key = dg.AssetCheckKey(dg.AssetKey(table), name)
        if key in context.selected_asset_check_keys:
            yield check_result(key, qualify(verdict, unread))


def _node_checks() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=_specs(NODES), can_subset=True, name="check_nodes")
    def check_nodes(
        context: dg.AssetCheckExecutionContext,
        lake: dg.ResourceParam[Lake],
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
    ) -> Verdicts:
        with outcomes(context.op_execution_context.retry_number):
            nodes = read_inventory(lake, NODES, fleet_declaration.regions, Node)
        ids = ((node.node_id, node.region) for node in nodes.records)
        verdicts = {
            "no_two_nodes_share_an_id": check_unique(ids, "node"),
            "every_node_heartbeat_is_recent": check_heartbeats(
                nodes.records, nodes.observed_at, fleet_declaration.heartbeats
            ),
            "nodes_are_as_declared": check_declared(nodes.records, fleet_declaration.nodes),
        }
        yield from _results(context, NODES, verdicts, nodes.unread)

    return check_nodes


def _gpu_checks() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=_specs(GPUS), can_subset=True, name="check_gpus")
    def check_gpus(
        context: dg.AssetCheckExecutionContext,
        lake: dg.ResourceParam[Lake],
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
    ) -> Verdicts:
        regions = fleet_declaration.regions
        with outcomes(context.op_execution_context.retry_number):
            nodes = read_inventory(lake, NODES, regions, Node)
            gpus = read_inventory(lake, GPUS, regions, Gpu)
        ids = ((gpu.gpu_uuid, gpu.region) for gpu in gpus.records)
        verdicts = {
            "no_two_gpus_share_a_uuid": check_unique(ids, "GPU"),
            "every_gpu_is_healthy": check_gpu_health(
                gpus.records, nodes.records, nodes.observed_at, fleet_declaration.heartbeats
            ),
        }
        yield from _results(context, GPUS, verdicts, [*gpus.unread, *nodes.unread])

    return check_gpus


def _agent_checks() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=_specs(AGENTS), can_subset=True, name="check_agents")
    def check_agents(
        context: dg.AssetCheckExecutionContext,
        lake: dg.ResourceParam[Lake],
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
    ) -> Verdicts:
        regions = fleet_declaration.regions
        with outcomes(context.op_execution_context.retry_number):
            nodes = read_inventory(lake, NODES, regions, Node)
            agents = read_inventory(lake, AGENTS, regions, Agent)
        ids = ((agent.agent_id, agent.region) for agent in agents.records)
        verdicts = {
            "no_two_agents_share_an_id": check_unique(ids, "agent"),
            "every_agent_is_on_a_known_node": check_known_nodes(agents.records, nodes.records),
            "allocations_fit_every_node": check_allocations(agents.records, nodes.records),
            "agents_are_as_declared": check_declared_agents(
                agents.records, fleet_declaration.workloads
            ),
        }
        yield from _results(context, AGENTS, verdicts, [*agents.unread, *nodes.unread])

    return check_agents


def _state_checks() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=_specs(STATES), can_subset=True, name="check_states")
    def check_states(
        context: dg.AssetCheckExecutionContext,
        lake: dg.ResourceParam[Lake],
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
    ) -> Verdicts:
        with outcomes(context.op_execution_context.retry_number):
            states = read_inventory(lake, STATES, fleet_declaration.regions, AgentStateInfo)
        ids = ((state.agent_id, state.region) for state in states.records)
        verdicts = {"no_two_states_share_an_agent": check_unique(ids, "agent state")}
        yield from _results(context, STATES, verdicts, states.unread)

    return check_states
