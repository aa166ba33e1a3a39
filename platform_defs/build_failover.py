"""Everything about failover that Dagster runs: the controller, its sensors, its jobs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from assets.failover import GROUP, build_failover_assets
from assets.failover_checks import build_failover_checks
from fleet.failover_declaration import FailoverDeclaration
from fleet.ports.control_store import ControlStore
from fleet.ports.infrastructure import InfrastructureReader
from fleet.ports.notifier import Notifier
from fleet.traffic_declaration import CONTROL_STORE_REGISTRY, RegistryDeclaration
from ops.fail_back_jobs import fail_back_rehearsal_job
from ops.failover import build_failover_job
from ops.failover_jobs import FAILOVER_JOB, REGION_FAILOVER_JOB
from ops.failover_report_jobs import FAILOVER_REPORT_JOB, REPORT_CLASS
from ops.failover_watch import FailoverWatch
from resources.clock import SystemClock
from sensors.fail_back import build_fail_back_sensor
from sensors.failed_runs import build_failed_run_sensor
from sensors.failover import build_failover_sensors
from sensors.failover_reports import build_report_schedule, build_report_sensor
from sensors.notifications import build_notification_sensor
from sensors.routes import build_route_sensor


class FailoverDefinitions(NamedTuple):
    """What is handed to `Definitions`."""

    assets: list[dg.AssetsDefinition]
    checks: list[dg.AssetChecksDefinition]
    jobs: list[Any]
    schedules: list[dg.ScheduleDefinition]
    sensors: list[dg.SensorDefinition]


def build_failover(declaration: FailoverDeclaration, regions: Sequence[str]) -> FailoverDefinitions:
    """Everything about failover; where it is disabled nothing moves by itself, the rest goes on.

    Args:
        declaration: whether the sensors that move agents run.
        regions: partitions of what is looked at, sorted.
    """
    return FailoverDefinitions(
        assets=build_failover_assets(regions),
        checks=build_failover_checks(),
        schedules=[build_report_schedule(running=True)],
        jobs=[
            build_failover_job(
                FAILOVER_JOB, "Moves the agents of a lost node to other nodes of its region."
            ),
            build_failover_job(
                REGION_FAILOVER_JOB,
                "Moves the agents of a lost region into its backup regions, or home again.",
            ),
            fail_back_rehearsal_job,
            dg.define_asset_job(
                FAILOVER_REPORT_JOB,
                selection=dg.AssetSelection.groups(GROUP),
                tags=REPORT_CLASS,
                description="Reports node health, incidents, placements and readiness; judges all.",
            ),
        ],
        sensors=[
            *build_failover_sensors(running=declaration.enabled),
            build_fail_back_sensor(running=declaration.enabled),
            build_notification_sensor(running=True),
            build_failed_run_sensor(running=True),
            build_report_sensor(running=True),
            build_route_sensor(running=True),
        ],
    )


def build_watch(
    declaration: FailoverDeclaration,
    control_store_url: str,
    notifier: Notifier,
    local_state_dir: Path | None,
    registry: RegistryDeclaration = CONTROL_STORE_REGISTRY,
) -> FailoverWatch:
    """The controller of this process; it opens nothing before a sensor asks it.

    Args:
        declaration: policy and targets.
        control_store_url: of the store that it keeps open from then on.
        notifier: whom alerts reach.
        local_state_dir: of a local cluster, whose process table can be asked; None for others.
        registry: of services.
    """
    clock = SystemClock()
    return FailoverWatch(
        _opener(control_store_url),
        declaration,
        declaration.probing,
        clock,
        notifier,
        None if local_state_dir is None else _infrastructure(local_state_dir, clock),
        registry,
    )


def _opener(url: str) -> Callable[[], ControlStore]:
    def open_store() -> ControlStore:
        from resources.control_store.opening import open_control_store

        return open_control_store(url, clock=SystemClock())

    return open_store


def _infrastructure(state_dir: Path, clock: SystemClock) -> InfrastructureReader:
    from resources.local.local_infrastructure import LocalInfrastructure

    return LocalInfrastructure(state_dir, clock)
