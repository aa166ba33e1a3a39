"""Rules between the settings of prices, right-sizing and disruption budgets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fleet.errors import InvalidInputError
from platform_defs.declared_costs import declared_budget, declared_rightsizing
from platform_defs.settings_costs import BudgetSettings, PriceSettings, RightsizingSettings
from platform_defs.settings_rules import Violation


def cost_violations(
    rightsizing: RightsizingSettings | None,
    prices: Sequence[PriceSettings | None],
    budgets: Sequence[BudgetSettings | None],
    regions: Sequence[str],
    workloads: Sequence[str],
) -> Iterator[Violation]:
    """Percentiles out of order, prices of unknown regions, budgets of nothing or of nobody."""
    if rightsizing is not None:
        try:
            declared_rightsizing(rightsizing)
        except InvalidInputError as error:
            yield Violation(
                ("rightsizing", "target_percentile"),
                f"{error.value!r} is not valid; allowed: {error.allowed}",
            )
    for price in prices:
        if price is not None and price.region and price.region not in regions:
            known = ", ".join(regions) or "none"
            yield Violation(
                ("prices", price.name, "region"),
                f"{price.region!r} is not valid; allowed: one that is declared ({known})",
            )
    for budget in budgets:
        if budget is None:
            continue
        unknown = [name for name in budget.workloads if name not in workloads]
        if unknown:
            known = ", ".join(workloads) or "none"
            yield Violation(
                ("disruption_budgets", budget.name, "workloads"),
                f"{unknown[0]!r} is not valid; allowed: those that are declared ({known})",
            )
        try:
            declared_budget(budget)
        except InvalidInputError as error:
            yield Violation(
                ("disruption_budgets", budget.name, error.field.rpartition(".")[2]),
                f"{error.value!r} is not valid; allowed: {error.allowed}",
            )
