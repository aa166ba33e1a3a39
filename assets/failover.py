"""Failover: how every node stands, what has happened, what it moved, and what could be taken over.

What is looked at is partitioned by region, because a region is what is lost; incidents and
placements cross regions and are not partitioned.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.inventory import CONTROL_STORE
from assets.lake_tables import after, beside, describe_table, with_freshness
from fleet.backup_tables import OBJECTIVES
from fleet.failover_tables import INCIDENTS, NODE_HEALTH, PLACEMENTS, READINESS
from ops.failover_reports import record_health_op, record_incidents_op, record_placements_op
from ops.inventory import AGENTS, NODES
from ops.takeovers import judge_takeovers_op

GROUP = "failover"

CODE_VERSION = "1"
"""Of the columns and their meaning; raised when either changes."""

FRESHNESS = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(minutes=20), warn_window=timedelta(minutes=10)
)
"""The report is taken every three minutes: three missed ones are a warning."""

DESCRIPTIONS = {
    NODE_HEALTH: (
        "Every node as the controller holds it: state, since when, ages of its signs of life, "
        "lease, votes, incident.\n\nGrain: one row per node and look. Source: the control store's "
        "signs of life, and the view that the leading controller keeps there. Freshness: every "
        "three minutes, and when an incident changes."
    ),
    INCIDENTS: (
        "Incidents that are open or ended within the last day: when each was seen, decided and "
        "done, what it moved and what was lost; told in sentences.\n\nGrain: one row per incident "
        "and look. Source: the control store's incidents and their journals. Freshness: every "
        "three minutes, and when an incident changes."
    ),
    READINESS: (
        "Could the other regions take each region over now? Room as the failover would plan it, "
        "age and proof of backups, keys, traffic, leader, observers.\n\nGrain: one row per region "
        "that would be lost, claim and look. Source: inventory, recovery objectives, control "
        "store. Freshness: every three minutes."
    ),
    PLACEMENTS: (
        "Every epoch of every agent that was ever stored, with node, term, reason and time.\n\n"
        "Grain: one row per agent and epoch, appended; the newest object holds what the last look "
        "found. Source: the control store's history of placements. Freshness: every three minutes."
    ),
}


def build_failover_assets(regions: Sequence[str]) -> list[dg.AssetsDefinition]:
    """The assets of the group.

    Args:
        regions: partitions of what is looked at, sorted.
    """
    by_region = dg.StaticPartitionsDefinition(list(regions))

    @dg.graph_asset(**_table(NODE_HEALTH, by_region), ins={**beside(NODES), **after(CONTROL_STORE)})
    def node_health(node_inventory: Any, control_store: Any) -> Any:
        return record_health_op([node_inventory, control_store])

    @dg.graph_asset(**_table(INCIDENTS), ins=after(NODE_HEALTH, CONTROL_STORE))
    def incidents(node_health: Any, control_store: Any) -> Any:
        return record_incidents_op([node_health, control_store])

    @dg.graph_asset(**_table(PLACEMENTS), ins=after(CONTROL_STORE))
    def placements(control_store: Any) -> Any:
        return record_placements_op(control_store)

    @dg.graph_asset(
        **_table(READINESS, by_region), ins=after(NODES, AGENTS, OBJECTIVES, NODE_HEALTH)
    )
    def failover_readiness(
        node_inventory: Any, agent_inventory: Any, recovery_objectives: Any, node_health: Any
    ) -> Any:
        return judge_takeovers_op(
            [node_inventory, agent_inventory, recovery_objectives, node_health]
        )

    found = [node_health, incidents, placements, failover_readiness]
    return with_freshness(found, FRESHNESS)


def _table(name: str, partitions: dg.PartitionsDefinition[str] | None = None) -> dict[str, Any]:
    return describe_table(name, DESCRIPTIONS[name], GROUP, partitions, CODE_VERSION)
