"""Everything about failover that Dagster runs: the controller, its sensors, its jobs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from fleet.failover_declaration import FailoverDeclaration
from fleet.ports.control_store import ControlStore
from fleet.ports.infrastructure import InfrastructureReader
from fleet.ports.notifier import Notifier
from fleet.probing import EMBEDDED_PROBING
from ops.failover import build_failover_job
from ops.failover_jobs import FAILOVER_JOB, REGION_FAILOVER_JOB
from ops.failover_watch import FailoverWatch
from resources.clock import SystemClock
from sensors.failover import build_failover_sensors
from sensors.notifications import build_notification_sensor


class FailoverDefinitions(NamedTuple):
    """What is handed to `Definitions`."""

    jobs: list[Any]
    sensors: list[dg.SensorDefinition]


def build_failover(declaration: FailoverDeclaration) -> FailoverDefinitions:
    """Jobs and sensors; where failover is disabled the sensors are there, and stopped."""
    return FailoverDefinitions(
        jobs=[
            build_failover_job(
                FAILOVER_JOB, "Moves the agents of a lost node to other nodes of its region."
            ),
            build_failover_job(
                REGION_FAILOVER_JOB,
                "Moves the agents of a lost region into its backup regions, or home again.",
            ),
        ],
        sensors=[
            *build_failover_sensors(running=declaration.enabled),
            build_notification_sensor(running=True),
        ],
    )


def build_watch(
    declaration: FailoverDeclaration,
    control_store_url: str,
    notifier: Notifier,
    local_state_dir: Path | None,
) -> FailoverWatch:
    """The controller of this process; it opens nothing before a sensor asks it.

    Args:
        declaration: policy and targets.
        control_store_url: of the store that it keeps open from then on.
        notifier: whom alerts reach.
        local_state_dir: of a local cluster, whose process table can be asked; None for others.
    """
    clock = SystemClock()
    return FailoverWatch(
        _opener(control_store_url),
        declaration,
        EMBEDDED_PROBING,
        clock,
        notifier,
        None if local_state_dir is None else _infrastructure(local_state_dir, clock),
    )


def _opener(url: str) -> Callable[[], ControlStore]:
    def open_store() -> ControlStore:
        from resources.control_store.opening import open_control_store

        return open_control_store(url, clock=SystemClock())

    return open_store


def _infrastructure(state_dir: Path, clock: SystemClock) -> InfrastructureReader:
    from resources.local.local_infrastructure import LocalInfrastructure

    return LocalInfrastructure(state_dir, clock)
