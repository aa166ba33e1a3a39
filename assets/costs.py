"""What the fleet costs and could save, as tables."""

from datetime import timedelta
from typing import Any

import dagster as dg

from assets.inventory import CONTROL_STORE, DECLARATION
from assets.lake_tables import after, with_freshness
from assets.metrics import SAMPLES
from assets.rescaling import HOURLY, describe_whole_table
from fleet.backup_tables import REPLICAS
from fleet.capacity import FORECAST_TABLE
from fleet.cleanup import CLEANUP_TABLE
from fleet.consolidation.records import PLAN_TABLE
from fleet.costs.proposals import PROPOSALS_TABLE
from fleet.costs.quotes import QUOTES_TABLE
from fleet.costs.report import COST_TABLE
from fleet.costs.spot import SPOT_TABLE
from fleet.rightsizing.records import ADVICE_TABLE
from ops.capacity import forecast_capacity_op
from ops.cleanup import plan_cleanup_op
from ops.consolidation import plan_consolidation_op
from ops.costs import judge_spot_op, report_costs_op
from ops.inventory import AGENTS, GPUS, NODES, STATES
from ops.price_quotes import quote_prices_op
from ops.savings import gather_savings_op

DAILY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=50), warn_window=timedelta(hours=26)
)

DESCRIPTIONS = {
    QUOTES_TABLE: (
        "What the provider asks for the instance types of the settings, with the date of the "
        "quote; no row while `costs.aws_prices` is off.\n\nGrain: one row per region and instance "
        "type. Source: AWS Price List Query API, on demand. Freshness: daily."
    ),
    COST_TABLE: (
        "What the fleet costs for an hour: what each workload is allocated on each node, what of "
        "it is used, what lies idle, what its states cost to keep and its backups to copy.\n\n"
        "Grain: one row per node and workload, one per node for what is idle, one per workload and "
        "region for storage, one per network and region for copies of backups, and look. Of every "
        "node, allocated and idle add up to its price. Source: the inventory, `backup_replicas`, "
        "and the price book of the settings. Freshness: hourly."
    ),
    SPOT_TABLE: (
        "Which workloads bear capacity that is taken back at short notice, and why.\n\nGrain: one "
        "row per workload and look. Source: declarations of the control store, sizes of "
        "`agent_states`, prices of `cost_report`. Freshness: hourly."
    ),
    PLAN_TABLE: (
        "Nodes that could be given back, within disruption budgets, each proposal found twice. "
        "Nothing carries it out by itself.\n\nGrain: one row per proposal and look. Source: nodes "
        "and placements of the control store. Freshness: hourly."
    ),
    FORECAST_TABLE: (
        "When each region is full by its own trend, and whether it could lose a node today."
        "\n\nGrain: one row per region and resource, and look. Source: the history of "
        "`cost_report`. Freshness: hourly."
    ),
    CLEANUP_TABLE: (
        "What is left behind: idle agents, states, backups and rows that belong to nothing. "
        "Nothing removes it by itself.\n\nGrain: one row per thing and look. Source: "
        "`metric_samples`, the control store, the vaults and the lake. Freshness: hourly."
    ),
    PROPOSALS_TABLE: (
        "Every change that would save money, with what it was tested on and what an operator would "
        "do; proposals overlap, so their savings do not add up.\n\nGrain: one row per proposal and "
        "look. Source: the four plans, and the history of `cost_report`. Freshness: hourly."
    ),
}


def build_cost_assets() -> list[dg.AssetsDefinition]:
    """Quotes, report, spot, consolidation, capacity, cleanup, and the list of all proposals."""

    @dg.graph_asset(**_catalogue(QUOTES_TABLE), ins=after(DECLARATION))
    def price_quotes(fleet_declaration: Any) -> Any:
        return quote_prices_op(fleet_declaration)

    @dg.graph_asset(
        **_catalogue(COST_TABLE), ins=after(QUOTES_TABLE, NODES, GPUS, AGENTS, STATES, REPLICAS)
    )
    def cost_report(
        price_quotes: Any,
        node_inventory: Any,
        gpu_inventory: Any,
        agent_inventory: Any,
        agent_states: Any,
        backup_replicas: Any,
    ) -> Any:
        inventory = [node_inventory, gpu_inventory, agent_inventory, agent_states]
        return report_costs_op([price_quotes, *inventory, backup_replicas])

    @dg.graph_asset(**_catalogue(SPOT_TABLE), ins=after(CONTROL_STORE, COST_TABLE, STATES))
    def spot_suitability(control_store: Any, cost_report: Any, agent_states: Any) -> Any:
        return judge_spot_op([control_store, cost_report, agent_states])

    @dg.graph_asset(**_catalogue(PLAN_TABLE), ins=after(CONTROL_STORE))
    def consolidation_plan(control_store: Any) -> Any:
        return plan_consolidation_op(control_store)

    @dg.graph_asset(**_catalogue(FORECAST_TABLE), ins=after(COST_TABLE, NODES))
    def capacity_forecast(cost_report: Any, node_inventory: Any) -> Any:
        return forecast_capacity_op([cost_report, node_inventory])

    @dg.graph_asset(**_catalogue(CLEANUP_TABLE), ins=after(SAMPLES, CONTROL_STORE, AGENTS, STATES))
    def cleanup_plan(
        metric_samples: Any, control_store: Any, agent_inventory: Any, agent_states: Any
    ) -> Any:
        return plan_cleanup_op([metric_samples, control_store, agent_inventory, agent_states])

    @dg.graph_asset(
        **_catalogue(PROPOSALS_TABLE),
        ins=after(ADVICE_TABLE, COST_TABLE, SPOT_TABLE, PLAN_TABLE, CLEANUP_TABLE),
    )
    def saving_proposals(
        rightsizing_advice: Any,
        cost_report: Any,
        spot_suitability: Any,
        consolidation_plan: Any,
        cleanup_plan: Any,
    ) -> Any:
        plans = [rightsizing_advice, spot_suitability, consolidation_plan, cleanup_plan]
        return gather_savings_op([*plans, cost_report])

    hourly = [
        cost_report,
        spot_suitability,
        consolidation_plan,
        capacity_forecast,
        cleanup_plan,
        saving_proposals,
    ]
    return [*with_freshness([price_quotes], DAILY), *with_freshness(hourly, HOURLY)]


def _catalogue(name: str) -> dict[str, Any]:
    return describe_whole_table(name, DESCRIPTIONS[name])
