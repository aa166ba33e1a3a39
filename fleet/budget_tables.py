"""The table of error budgets: its columns, and what the check says of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.inventory_checks import CheckVerdict, Offender, Severity
from fleet.objectives import BudgetState, ErrorBudget, Objective

ERROR_BUDGETS = "error_budgets"


class BudgetRow(NamedTuple):
    """How an objective stood at a moment."""

    objective: str
    kind: str
    network: str
    service: str
    region: str
    target: float
    state: str
    """`kept`, `at risk`, `missed` or `no data`."""
    events: float | None
    """Of the window; None where none was counted."""
    bad_events: float | None
    error_ratio: float | None
    left_ratio: float | None
    """Share of the budget that is left: 1 untouched, 0 just spent, below 0 missed."""
    burn_rate_1h: float | None
    """How many times faster than even the budget burns; None without data."""
    burn_rate_6h: float | None
    burn_rate_3d: float | None
    looked_at: datetime


def budget_row(objective: Objective, budget: ErrorBudget, at: datetime) -> BudgetRow:
    """A row of the table."""
    burns = budget.burn_rates
    return BudgetRow(
        objective.name,
        objective.kind.value,
        objective.network,
        objective.service,
        objective.region,
        objective.target,
        budget.state.value,
        budget.total,
        budget.bad,
        budget.error_ratio,
        budget.left_ratio,
        burns.get("1h"),
        burns.get("6h"),
        burns.get("3d"),
        at,
    )


def check_budgets(rows: Sequence[BudgetRow]) -> CheckVerdict:
    """No objective is missed; those at risk are named, and make it a warning."""
    found = [row for row in rows if row.state in {BudgetState.MISSED, BudgetState.AT_RISK}]
    found.sort(key=lambda row: (1.0 if row.left_ratio is None else row.left_ratio, row.objective))
    missed = [row for row in found if row.state == BudgetState.MISSED]
    offenders = [
        Offender(row.objective, row.region, f"{row.state}, {_percent(row.left_ratio)} left")
        for row in found
    ]
    severity = Severity.ERROR if missed else Severity.WARN
    reason = (
        f"{len(missed)} of {len(rows)} objectives are missed, {len(found) - len(missed)} at risk"
    )
    return _verdict(rows, offenders, severity, reason)


def check_measured(rows: Sequence[BudgetRow]) -> CheckVerdict:
    """Every objective had an event in its window: what nobody measures is not kept."""
    offenders = [
        Offender(row.objective, row.region, "nothing was counted in its window")
        for row in rows
        if row.state == BudgetState.NO_DATA
    ]
    reason = f"{len(offenders)} of {len(rows)} objectives are without data"
    return _verdict(rows, offenders, Severity.WARN, reason)


def _verdict(
    rows: Sequence[BudgetRow], offenders: Sequence[Offender], severity: Severity, reason: str
) -> CheckVerdict:
    numbers = {"checked": float(len(rows)), "offenders": float(len(offenders))}
    return CheckVerdict(not offenders, severity, reason, tuple(offenders[:20]), numbers)


def _percent(ratio: float | None) -> str:
    return "nothing known" if ratio is None else f"{ratio * 100:.1f} %"
