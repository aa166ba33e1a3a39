"""Claims about costs, advice, consolidation, capacity and cleanup; none blocks anything."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import dagster as dg

from fleet.agents import Workload
from fleet.capacity import FORECAST_TABLE, CapacityPolicy
from fleet.cleanup import CLEANUP_TABLE
from fleet.consolidation.records import PLAN_TABLE
from fleet.costs.checks import (
    TRAILING_DAYS,
    check_cleanup,
    check_forecast,
    check_loss,
    check_prices,
    check_sizes,
    check_spend,
    check_validated,
)
from fleet.costs.prices import PriceBook
from fleet.costs.quotes import QuotePolicy
from fleet.costs.report import COST_TABLE
from fleet.declaration import FleetDeclaration
from fleet.inventory import Agent, Node
from fleet.inventory_checks import CheckVerdict
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from fleet.rightsizing.records import ADVICE_TABLE
from ops.capacity import read_forecast
from ops.cleanup import read_cleanup
from ops.consolidation import read_plan
from ops.costs import read_spend
from ops.evidence import check_result
from ops.inventory import AGENTS, NODES
from ops.inventory_reads import qualify, read_inventory
from ops.outcomes import outcomes
from ops.price_quotes import quoted_book

CLAIMS = {
    COST_TABLE: {
        "spend_is_usual": "Spend is at most 1.5 times the median of the last seven days.",
        "every_node_has_a_price": "No node costs nothing.",
    },
    ADVICE_TABLE: {
        "only_the_settings_size_agents": "Agents are allocated what the settings say, whatever is "
        "advised.",
    },
    PLAN_TABLE: {
        "every_proposal_was_looked_at_twice": "No proposal stands that was planned only once.",
    },
    FORECAST_TABLE: {
        "no_region_fills_up_soon": "No resource of a region is full within `capacity.warn_days`.",
        "every_region_can_lose_nodes": "Agents of the largest nodes would fit on the others.",
    },
    CLEANUP_TABLE: {
        "nothing_is_left_behind": "Nothing belongs to nothing, but what is held.",
    },
}
Judge = Callable[[], CheckVerdict]


def build_cost_checks() -> list[dg.AssetChecksDefinition]:
    """A definition for each table, so that each is judged by its own run."""
    return [
        _cost_checks(),
        _advice_check(),
        _plan_check(),
        _forecast_checks(),
        _cleanup_check(),
    ]


def _specs(table: str) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=table, description=meaning, blocking=False)
        for name, meaning in CLAIMS[table].items()
    ]


def _judged(
    context: dg.AssetCheckExecutionContext, table: str, judges: dict[str, Judge]
) -> Iterator[dg.AssetCheckResult]:
    """Results of the claims that the run asks for."""
    for name, judge in judges.items():
        key = dg.AssetCheckKey(dg.AssetKey(table), name)
        if key in context.selected_asset_check_keys:
            with outcomes(context.op_execution_context.retry_number):
                verdict = judge()
            yield check_result(key, verdict)


def _cost_checks() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=_specs(COST_TABLE), can_subset=True, name=f"check_{COST_TABLE}")
    def check(
        context: dg.AssetCheckExecutionContext,
        lake: dg.ResourceParam[Lake],
        clock: dg.ResourceParam[Clock],
        price_book: dg.ResourceParam[PriceBook],
        quote_policy: dg.ResourceParam[QuotePolicy],
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
    ) -> Iterator[dg.AssetCheckResult]:
        def usual() -> CheckVerdict:
            now = clock.now()
            since, until = now - timedelta(days=TRAILING_DAYS), now + timedelta(minutes=1)
            return check_spend(read_spend(lake, since, until))

        def priced() -> CheckVerdict:
            read = read_inventory(lake, NODES, fleet_declaration.regions, Node)
            book = quoted_book(lake, price_book, quote_policy)
            return qualify(check_prices(read.records, book), read.unread)

        judges = {"spend_is_usual": usual, "every_node_has_a_price": priced}
        yield from _judged(context, COST_TABLE, judges)

    return check


def _advice_check() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=_specs(ADVICE_TABLE), can_subset=True, name=f"check_{ADVICE_TABLE}")
    def check(
        context: dg.AssetCheckExecutionContext,
        lake: dg.ResourceParam[Lake],
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
        declared_workloads: dg.ResourceParam[tuple[Workload, ...]],
    ) -> Iterator[dg.AssetCheckResult]:
        def sized() -> CheckVerdict:
            read = read_inventory(lake, AGENTS, fleet_declaration.regions, Agent)
            return qualify(check_sizes(declared_workloads, read.records), read.unread)

        yield from _judged(context, ADVICE_TABLE, {"only_the_settings_size_agents": sized})

    return check


def _plan_check() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=_specs(PLAN_TABLE), can_subset=True, name=f"check_{PLAN_TABLE}")
    def check(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> Iterator[dg.AssetCheckResult]:
        judges: dict[str, Judge] = {
            "every_proposal_was_looked_at_twice": lambda: check_validated(read_plan(lake))
        }
        yield from _judged(context, PLAN_TABLE, judges)

    return check


def _forecast_checks() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        specs=_specs(FORECAST_TABLE), can_subset=True, name=f"check_{FORECAST_TABLE}"
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        lake: dg.ResourceParam[Lake],
        capacity_policy: dg.ResourceParam[CapacityPolicy],
    ) -> Iterator[dg.AssetCheckResult]:
        judges: dict[str, Judge] = {
            "no_region_fills_up_soon": lambda: check_forecast(read_forecast(lake), capacity_policy),
            "every_region_can_lose_nodes": lambda: check_loss(read_forecast(lake), capacity_policy),
        }
        yield from _judged(context, FORECAST_TABLE, judges)

    return check


def _cleanup_check() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        specs=_specs(CLEANUP_TABLE), can_subset=True, name=f"check_{CLEANUP_TABLE}"
    )
    def check(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> Iterator[dg.AssetCheckResult]:
        judges: dict[str, Judge] = {
            "nothing_is_left_behind": lambda: check_cleanup(read_cleanup(lake))
        }
        yield from _judged(context, CLEANUP_TABLE, judges)

    return check
