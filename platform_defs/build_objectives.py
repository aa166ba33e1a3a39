"""The part of the definitions that judges objectives: asset, checks, job and schedule."""

from typing import Any, NamedTuple

import dagster as dg

from assets.error_budgets import build_error_budget_assets, build_error_budget_checks
from fleet.budget_tables import ERROR_BUDGETS
from ops.metrics import METRIC_CLASS

BUDGETS_JOB = "error_budgets_job"
CRON = "*/15 * * * *"


class ObjectiveDefinitions(NamedTuple):
    """What the code location gains."""

    assets: list[dg.AssetsDefinition]
    checks: list[dg.AssetChecksDefinition]
    jobs: list[Any]
    schedules: list[dg.ScheduleDefinition]


def build_objectives(*, running: bool) -> ObjectiveDefinitions:
    """Everything about objectives; where none is declared it is there, and stopped.

    Args:
        running: whether the schedule runs unless somebody stops it in the UI.
    """
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return ObjectiveDefinitions(
        assets=build_error_budget_assets(),
        checks=build_error_budget_checks(),
        jobs=[
            dg.define_asset_job(
                BUDGETS_JOB,
                selection=dg.AssetSelection.assets(ERROR_BUDGETS)
                | dg.AssetSelection.checks_for_assets(ERROR_BUDGETS),
                tags=METRIC_CLASS,
                description="Says what is left of every error budget, and judges it.",
            )
        ],
        schedules=[
            dg.ScheduleDefinition(
                name="error_budgets_schedule",
                job_name=BUDGETS_JOB,
                cron_schedule=CRON,
                execution_timezone="UTC",
                default_status=status,
                description="Every quarter of an hour, when objectives are declared.",
            )
        ],
    )
