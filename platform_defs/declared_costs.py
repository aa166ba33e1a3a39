"""Prices, sizes, consolidation, cleanup and capacity as declared, in the records of the core."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.capacity import CapacityPolicy
from fleet.cleanup import CleanupPolicy
from fleet.consolidation.records import ConsolidationPolicy
from fleet.costs.prices import NodePrice, PriceBook, ResourceRates
from fleet.costs.quotes import QuotePolicy
from fleet.costs.spot import SpotPolicy
from fleet.disruption_budgets import DisruptionBudget, parse_count, validate_budget
from fleet.errors import InvalidInputError
from fleet.rightsizing.records import MIB, RightsizingPolicy
from fleet.workload_budgets import WorkloadBudget
from platform_defs.settings_costs import (
    BudgetSettings,
    CapacitySettings,
    CleanupSettings,
    ConsolidationSettings,
    CostSettings,
    PriceSettings,
    RightsizingSettings,
)


def declared_prices(costs: CostSettings, prices: Sequence[PriceSettings]) -> PriceBook:
    """The price book of the settings, without quotes."""
    return PriceBook(
        ResourceRates(
            costs.cpu_core_hour,
            costs.memory_gib_hour,
            costs.gpu_hour,
            costs.storage_gib_month,
            costs.egress_gib,
        ),
        tuple(
            NodePrice(
                one.name,
                one.region,
                one.gpu_model,
                one.cpu_milli,
                one.instance_type,
                one.node_hour,
                one.gpu_hour,
            )
            for one in prices
        ),
        currency=costs.currency,
    )


def declared_quotes(costs: CostSettings) -> QuotePolicy:
    """Whether and how often a provider is asked for prices."""
    return QuotePolicy(
        costs.aws_prices, costs.aws_prices_max_age_hours * 3600, costs.aws_endpoint_url
    )


def declared_spot(costs: CostSettings) -> SpotPolicy:
    """What is asked of workloads on spot capacity."""
    return SpotPolicy(
        restore_bytes_per_s=costs.spot_restore_mbps * 1e6 / 8, saving_ratio=costs.spot_saving_ratio
    )


def declared_rightsizing(one: RightsizingSettings) -> RightsizingPolicy:
    """The policy as the core takes it.

    Raises:
        InvalidInputError: percentiles out of order.
    """
    return RightsizingPolicy(
        history_days=one.history_days,
        half_life_s=one.half_life_hours * 3600,
        target_percentile=one.target_percentile,
        lower_percentile=one.lower_percentile,
        upper_percentile=one.upper_percentile,
        margin=one.margin,
        cpu_floor_milli=one.cpu_floor_milli,
        memory_floor_bytes=one.memory_floor_mib * MIB,
    )


def declared_consolidation(
    one: ConsolidationSettings, budgets: Sequence[BudgetSettings]
) -> ConsolidationPolicy:
    """The policy as the core takes it; without a budget of nodes, the default one."""
    declared = tuple(declared_budget(budget) for budget in budgets if not budget.agents)
    of_agents = (budget for budget in budgets if budget.agents)
    return ConsolidationPolicy(
        validate_after_s=one.validate_after_s,
        score_min=one.score_min,
        settle_s=one.settle_hours * 3600,
        headroom_ratio=one.headroom_ratio,
        nodes_at_once=one.nodes_at_once,
        budgets=declared or ConsolidationPolicy().budgets,
        workload_budgets=tuple(
            WorkloadBudget(declared_budget(budget), budget.workloads) for budget in of_agents
        ),
    )


def declared_budget(one: BudgetSettings) -> DisruptionBudget:
    """A budget as the core takes it; its number is of agents where `agents` says it.

    Raises:
        InvalidInputError: a number, reason or schedule that means nothing, both numbers or none,
            or workloads of a budget of nodes.
    """
    where = f"disruption_budgets.{one.name}"
    if bool(one.nodes) == bool(one.agents):
        allowed = "a whole number, or a percentage such as '10%', in one of `nodes` and `agents`"
        raise InvalidInputError(f"{where}.nodes", one.nodes, allowed)
    if one.workloads and not one.agents:
        raise InvalidInputError(f"{where}.workloads", list(one.workloads), "only with `agents`")
    unit = "agents" if one.agents else "nodes"
    count, percent = parse_count(f"{where}.{unit}", one.agents or one.nodes)
    return validate_budget(
        DisruptionBudget(
            one.name,
            count,
            percent,
            one.reasons,
            one.window_hours * 3600,
            one.schedule,
            one.duration_hours * 3600,
        )
    )


def declared_cleanup(one: CleanupSettings) -> CleanupPolicy:
    """The policy as the core takes it."""
    return CleanupPolicy(one.idle_hours, one.orphan_days, one.keep)


def declared_capacity(one: CapacitySettings) -> CapacityPolicy:
    """The policy as the core takes it."""
    return CapacityPolicy(one.history_days, one.warn_days, one.full_ratio, one.nodes_lost)
