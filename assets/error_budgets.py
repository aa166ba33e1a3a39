"""What is left of the error budget of every declared objective, and two claims about it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.lake_tables import beside, describe_table, with_freshness
from assets.metrics import GROUP, SAMPLES
from fleet.budget_tables import ERROR_BUDGETS, check_budgets, check_measured
from fleet.ports.lake import Lake
from ops.error_budgets import measure_error_budgets_op, read_budgets
from ops.evidence import check_result
from ops.outcomes import outcomes

CODE_VERSION = "1"
"""Of the columns and their meaning; raised when either changes."""

CLAIMS = {
    "no_error_budget_is_spent": "No objective is missed, and none burns so fast that it will be.",
    "every_objective_is_measured": "Events were counted in the window of every objective.",
}

QUARTER_HOURLY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=1), warn_window=timedelta(minutes=35)
)


def build_error_budget_assets() -> list[dg.AssetsDefinition]:
    """The one asset."""
    catalogue = describe_table(
        ERROR_BUDGETS,
        (
            "What is left of the error budget of every objective in the settings, and how fast it "
            "burns.\n\nGrain: one row per objective and look. Error ratios are quotients of summed "
            "increases over the objective's window; without an event there is no ratio. Source: "
            "`metric_samples` and its rollups. Freshness: every 15 minutes."
        ),
        GROUP,
        None,
        CODE_VERSION,
    )
    del catalogue["partitions_def"], catalogue["backfill_policy"]

    @dg.graph_asset(**catalogue, ins=beside(SAMPLES))
    def error_budgets(metric_samples: Any) -> Any:
        return measure_error_budgets_op(metric_samples)

    return with_freshness([error_budgets], QUARTER_HOURLY)


def build_error_budget_checks() -> list[dg.AssetChecksDefinition]:
    """Both claims, judged in one step; neither blocks."""

    @dg.multi_asset_check(
        specs=[
            dg.AssetCheckSpec(name, asset=ERROR_BUDGETS, description=meaning, blocking=False)
            for name, meaning in CLAIMS.items()
        ],
        can_subset=True,
        name=f"check_{ERROR_BUDGETS}",
    )
    def check(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> Iterator[dg.AssetCheckResult]:
        with outcomes(context.op_execution_context.retry_number):
            rows = read_budgets(lake)
        verdicts = {
            "no_error_budget_is_spent": check_budgets(rows),
            "every_objective_is_measured": check_measured(rows),
        }
        for name, verdict in verdicts.items():
            key = dg.AssetCheckKey(dg.AssetKey(ERROR_BUDGETS), name)
            if key in context.selected_asset_check_keys:
                yield check_result(key, verdict)

    return [check]
