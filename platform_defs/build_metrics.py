"""Everything about raw metrics and their rollups that Dagster runs."""

from typing import Any, NamedTuple

import dagster as dg

from assets.metric_checks import CLAIMS, build_metric_checks
from assets.metrics import RETENTION, build_metric_assets, build_metric_specs
from fleet.metrics.store_facts import MetricsDeclaration
from ops.metrics import DAYS_JOB, HOURS_JOB, METRIC_CLASS, RETENTION_JOB
from sensors.fleet_overview import build_overview_sensor
from sensors.metrics import LEVELS, build_retention_schedule, build_rollup_sensor


class MetricDefinitions(NamedTuple):
    """What is handed to `Definitions`."""

    assets: list[dg.AssetsDefinition | dg.AssetSpec]
    checks: list[dg.AssetChecksDefinition]
    jobs: list[Any]
    schedules: list[dg.ScheduleDefinition]
    sensors: list[dg.SensorDefinition]


def build_metrics(declaration: MetricsDeclaration, retention_cron: str) -> MetricDefinitions:
    """Everything about metrics; where they are disabled it is there, and stopped.

    Args:
        declaration: of the store.
        retention_cron: when the store is tidied up, UTC.
    """
    rollup_jobs = [
        _rollup_job(HOURS_JOB, "Makes the rollups of an hour: 1m from samples, 5m from 1m."),
        _rollup_job(DAYS_JOB, "Makes the rollups of a day: 1h from 5m, 1d from 1h."),
    ]
    retention_job = dg.define_asset_job(
        RETENTION_JOB,
        selection=dg.AssetSelection.assets(RETENTION)
        | dg.AssetSelection.checks_for_assets(*CLAIMS),
        tags=METRIC_CLASS,
        description="Merges parts, lets old ones go, verifies bytes, judges every claim.",
    )
    running = declaration.enabled
    return MetricDefinitions(
        assets=[*build_metric_specs(), *build_metric_assets(declaration.first_day)],
        checks=build_metric_checks(),
        jobs=[*rollup_jobs, retention_job],
        schedules=[build_retention_schedule(retention_cron, running=running)],
        sensors=[
            build_rollup_sensor(rollup_jobs, declaration.first_day, running=running),
            build_overview_sensor(running=running),
        ],
    )


def _rollup_job(name: str, description: str) -> Any:
    assets = [level.asset for level in LEVELS[name]]
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*assets).without_checks(),
        tags=METRIC_CLASS,
        description=description,
    )
