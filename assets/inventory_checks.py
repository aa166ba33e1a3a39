"""Claims about the inventory, each judged on the newest rows of all regions.

A check reads what was written, not what the run meant to write: a lost or damaged object is
therefore found here. One step per table reads it once and judges all its claims.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import dagster as dg

from fleet.declaration import FleetDeclaration
from fleet.declared_checks import check_declared, check_declared_agents
from fleet.inventory import Agent, AgentStateInfo, Gpu, Node
from fleet.inventory_checks import (
    CheckVerdict,
    check_allocations,
    check_gpu_health,
    check_heartbeats,
    check_known_nodes,
    check_unique,
)
from fleet.ports.lake import Lake
from ops.evidence import check_result
from ops.inventory import AGENTS, GPUS, NODES, STATES
from ops.inventory_reads import Inventory, qualify, read_inventory
from ops.outcomes import outcomes

Seen = Mapping[str, Inventory[Any]]
"""Table -> its newest rows of all regions."""

Judge = Callable[[Seen, FleetDeclaration], CheckVerdict]


class Claim(NamedTuple):
    """One claim about a table."""

    meaning: str
    judge: Judge


class TableChecks(NamedTuple):
    """The claims about one table, and what has to be read to judge them."""

    step: str
    reads: Mapping[str, type[Any]]
    """Table -> record of its rows."""
    claims: Mapping[str, Claim]


def _unique(table: str, field: str, noun: str) -> Judge:
    """Judge that no two rows of a table share an id."""

    def judge(seen: Seen, _: FleetDeclaration) -> CheckVerdict:
        rows = seen[table].records
        return check_unique(((getattr(row, field), row.region) for row in rows), noun)

    return judge


CHECKS = {
    NODES: TableChecks(
        "check_nodes",
        {NODES: Node},
        {
            "no_two_nodes_share_an_id": Claim(
                "No node id occurs twice, in one region or across regions.",
                _unique(NODES, "node_id", "node"),
            ),
            "every_node_heartbeat_is_recent": Claim(
                "Every node that should be up is neither late nor lost.",
                lambda seen, declared: check_heartbeats(
                    seen[NODES].records, seen[NODES].observed_at, declared.heartbeats
                ),
            ),
            "nodes_are_as_declared": Claim(
                "No node is missing, undeclared, or of another shape.",
                lambda seen, declared: check_declared(seen[NODES].records, declared.nodes),
            ),
        },
    ),
    GPUS: TableChecks(
        "check_gpus",
        {GPUS: Gpu, NODES: Node},
        {
            "no_two_gpus_share_a_uuid": Claim(
                "No GPU is reported by two nodes.", _unique(GPUS, "gpu_uuid", "GPU")
            ),
            "every_gpu_is_healthy": Claim(
                "Every declared GPU is there and fit for work.",
                lambda seen, declared: check_gpu_health(
                    seen[GPUS].records,
                    seen[NODES].records,
                    seen[NODES].observed_at,
                    declared.heartbeats,
                ),
            ),
        },
    ),
    AGENTS: TableChecks(
        "check_agents",
        {AGENTS: Agent, NODES: Node},
        {
            "no_two_agents_share_an_id": Claim(
                "No agent id occurs twice, in one region or across regions.",
                _unique(AGENTS, "agent_id", "agent"),
            ),
            "every_agent_is_on_a_known_node": Claim(
                "Every agent's node is in the inventory of its region.",
                lambda seen, _: check_known_nodes(seen[AGENTS].records, seen[NODES].records),
            ),
            "allocations_fit_every_node": Claim(
                "No node has given its agents more than it has.",
                lambda seen, _: check_allocations(seen[AGENTS].records, seen[NODES].records),
            ),
            "agents_are_as_declared": Claim(
                "No workload has too few or too many agents, or is undeclared.",
                lambda seen, declared: check_declared_agents(
                    seen[AGENTS].records, declared.workloads
                ),
            ),
        },
    ),
    STATES: TableChecks(
        "check_states",
        {STATES: AgentStateInfo},
        {
            "no_two_states_share_an_agent": Claim(
                "No agent has two states, in one region or across regions.",
                _unique(STATES, "agent_id", "agent state"),
            ),
        },
    ),
}
"""Table -> what is claimed of it."""


def build_inventory_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of all four tables; none blocks, because a bad inventory is still worth having."""
    return [_table_checks(table, checks) for table, checks in CHECKS.items()]


def _table_checks(table: str, checks: TableChecks) -> dg.AssetChecksDefinition:
    """One step that reads once what its claims are about, and judges those that are selected."""
    specs = [
        dg.AssetCheckSpec(name, asset=table, description=claim.meaning, blocking=False)
        for name, claim in checks.claims.items()
    ]

    @dg.multi_asset_check(specs=specs, can_subset=True, name=checks.step)
    def check_table(
        context: dg.AssetCheckExecutionContext,
        lake: dg.ResourceParam[Lake],
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
    ) -> Iterator[dg.AssetCheckResult]:
        with outcomes(context.op_execution_context.retry_number):
            seen = {
                name: read_inventory(lake, name, fleet_declaration.regions, record)
                for name, record in checks.reads.items()
            }
        unread = [each for inventory in seen.values() for each in inventory.unread]
        for name, claim in checks.claims.items():
            key = dg.AssetCheckKey(dg.AssetKey(table), name)
            if key in context.selected_asset_check_keys:
                verdict = claim.judge(seen, fleet_declaration)
                yield check_result(key, qualify(verdict, unread))

    return check_table
