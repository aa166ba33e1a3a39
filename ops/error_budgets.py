"""Measures what is left of every objective's error budget, and records it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from fleet.budget_tables import ERROR_BUDGETS, BudgetRow, budget_row
from fleet.errors import NotFoundError
from fleet.objectives import BURNS, Objective, bad_expr, judge_budget, ratio_expr, total_expr
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from fleet.ports.metric_store import MetricReader
from fleet.ports.query_engine import QueryEngine
from ops.evidence import column_schema, number_evidence, object_evidence, table_preview
from ops.inventory import AFTER
from ops.outcomes import outcomes

PARTITION = "all"
"""The table is about all objectives at once."""
MINUTE_MS = 60_000
PREVIEW = ("objective", "state", "left_ratio", "error_ratio", "burn_rate_1h", "events")
PLOTTED_MAX = 20
"""Objectives that have plots of their own; the worst of all has one in any case."""


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Ask what every objective's window has held, and what is left of its budget.",
)
def measure_error_budgets_op(
    context: dg.OpExecutionContext,
    metric_store: dg.ResourceParam[MetricReader],
    objectives: dg.ResourceParam[tuple[Objective, ...]],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Record a row for each objective; committed by `Lake.write`."""
    from fleet.promql.engine import PromqlEngine
    from resources.lake.records import to_table

    now = clock.now()
    with outcomes(context.retry_number):
        rows = measure_budgets(PromqlEngine(metric_store), objectives, now)
        committed = lake.write(ERROR_BUDGETS, PARTITION, to_table(rows, BudgetRow), now)
    metadata: dict[str, Any] = {
        **number_evidence(budget_numbers(rows)),
        **object_evidence(committed),
        "preview": table_preview(rows, PREVIEW),
        "dagster/table_name": ERROR_BUDGETS,
        "dagster/column_schema": column_schema(BudgetRow),
    }
    context.add_output_metadata(metadata)


def measure_budgets(
    engine: QueryEngine, objectives: Sequence[Objective], now: datetime
) -> list[BudgetRow]:
    """How every objective stands at the last full minute, which rollups can answer.

    Raises:
        TransientError: the samples cannot be read now.
        InvalidInputError, TooLargeError: a query cannot be answered.
    """
    at_ms = int(now.timestamp() * 1000) // MINUTE_MS * MINUTE_MS
    windows = dict.fromkeys(window for burn in BURNS for window in (burn.short, burn.long))

    def one(expr: str) -> float | None:
        values = engine.instant(expr, at_ms).values.tolist()
        return float(values[0]) if values else None

    return [
        budget_row(
            each,
            judge_budget(
                each,
                one(total_expr(each, each.window)),
                one(bad_expr(each, each.window)),
                {window: one(ratio_expr(each, window)) for window in windows},
            ),
            now,
        )
        for each in objectives
    ]


def read_budgets(lake: Lake) -> list[BudgetRow]:
    """The newest rows; none when budgets were never measured.

    Raises:
        CorruptObjectError: rows are damaged; the next materialization heals the view.
    """
    from resources.lake.records import from_table

    try:
        return from_table(lake.read_latest(ERROR_BUDGETS, PARTITION), BudgetRow)
    except NotFoundError:
        return []


def budget_numbers(rows: Sequence[BudgetRow]) -> dict[str, int | float]:
    """What plots: how many stand how, the worst budget, and each of the first objectives."""
    numbers: dict[str, int | float] = {"objectives": len(rows)}
    for state in ("kept", "at risk", "missed", "no data"):
        numbers[state] = sum(row.state == state for row in rows)
    known = [row for row in rows if row.left_ratio is not None]
    if known:
        numbers["left_ratio"] = min(row.left_ratio or 0.0 for row in known)
    for row in known[:PLOTTED_MAX]:
        numbers[f"left_ratio of {row.objective}"] = row.left_ratio or 0.0
        if row.burn_rate_1h is not None:
            numbers[f"burn_rate_1h of {row.objective}"] = row.burn_rate_1h
    return numbers
