"""Everything about rescaling that Dagster runs: the controller, its sensor, its job, its report."""

from collections.abc import Callable
from typing import Any, NamedTuple

import dagster as dg

from assets.scaling_checks import build_rescaling_checks
from assets.scaling_decisions import build_rescaling_assets
from fleet.metrics.store_facts import MetricsDeclaration
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from fleet.ports.notifier import Notifier
from fleet.ports.query_engine import QueryEngine
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.tables import SCALING_DECISIONS
from ops.inventory_jobs import RUN_CLASS
from ops.rescaling_jobs import rescale_job
from ops.rescaling_watch import RescalingWatch
from resources.clock import SystemClock
from sensors.rescaling import build_rescale_sensor

REPORT_JOB = "rescaling_report_job"


class RescalingDefinitions(NamedTuple):
    """What is handed to `Definitions`."""

    assets: list[dg.AssetsDefinition]
    checks: list[dg.AssetChecksDefinition]
    jobs: list[Any]
    schedules: list[dg.ScheduleDefinition]
    sensors: list[dg.SensorDefinition]


def build_rescaling(declaration: RescalingDeclaration) -> RescalingDefinitions:
    """Everything about rescaling.

    The sensor runs also where no workload is scaled: a person may order a number.

    Args:
        declaration: says whether there is anything to report regularly.
    """
    status = (
        dg.DefaultScheduleStatus.RUNNING
        if declaration.workloads
        else dg.DefaultScheduleStatus.STOPPED
    )
    report_job = dg.define_asset_job(
        REPORT_JOB,
        selection=dg.AssetSelection.assets(SCALING_DECISIONS),
        tags={RUN_CLASS: "rescaling_report"},
        description="Appends what was decided to the lake, and judges all claims.",
    )
    return RescalingDefinitions(
        assets=build_rescaling_assets(),
        checks=build_rescaling_checks(),
        jobs=[rescale_job, report_job],
        schedules=[
            dg.ScheduleDefinition(
                name="rescaling_report_schedule",
                job_name=REPORT_JOB,
                cron_schedule="*/5 * * * *",
                execution_timezone="UTC",
                default_status=status,
                description="Reports what was decided about every workload, every 5 minutes.",
            )
        ],
        sensors=[build_rescale_sensor(running=True)],
    )


def build_rescaling_watch(
    declaration: RescalingDeclaration,
    control_store_url: str,
    metrics: MetricsDeclaration,
    lake_path: str,
    notifier: Notifier,
) -> RescalingWatch:
    """The controller of this process; it opens nothing before a sensor asks it.

    Args:
        declaration: what is scaled, and how.
        control_store_url: of the store that it keeps open from then on.
        metrics: where samples lie.
        lake_path: where decisions of the last weeks lie.
        notifier: whom alerts reach.
    """
    return RescalingWatch(
        _store_opener(control_store_url),
        _engine_opener(metrics, declaration.sample_age_max_s),
        declaration,
        SystemClock(),
        notifier,
        _lake_opener(lake_path),
    )


def _store_opener(url: str) -> Callable[[], ControlStore]:
    def open_store() -> ControlStore:
        from resources.control_store.opening import open_control_store

        return open_control_store(url, clock=SystemClock())

    return open_store


def _lake_opener(path: str) -> Callable[[], Lake]:
    def open_lake() -> Lake:
        from resources.lake.directory_store import DirectoryStore
        from resources.lake.parquet_lake import ParquetLake

        return ParquetLake(DirectoryStore(path))

    return open_lake


def _engine_opener(metrics: MetricsDeclaration, age_max_s: float) -> Callable[[], QueryEngine]:
    def open_engine() -> QueryEngine:
        from fleet.promql.engine import PromqlEngine
        from resources.metrics.opening import open_metric_store

        store = open_metric_store(metrics, SystemClock().now, writer="rescaling")
        return PromqlEngine(store, lookback_ms=round(age_max_s * 1000))

    return open_engine
