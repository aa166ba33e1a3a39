"""When costs are judged for the first time: as soon as there is an inventory, not at the hour."""

from datetime import datetime

import dagster as dg

from fleet.costs.report import COST_TABLE
from fleet.ports.clock import Clock
from ops.inventory import NODES
from sensors.backups import UNFINISHED

INTERVAL_S = 14
"""Every third pass of the sensor daemon (5 s)."""

TRY_MINUTES = 10
"""A first run that failed is tried again in the next ten minutes of the clock."""


def build_first_costs_sensor(job_name: str, *, running: bool) -> dg.SensorDefinition:
    """The sensor that asks for the first report; every later one is the schedule's.

    Args:
        job_name: of the job that judges costs.
        running: whether it runs unless somebody stops it in the UI.
    """

    @dg.sensor(
        name="first_costs_sensor",
        job_name=job_name,
        minimum_interval_seconds=INTERVAL_S,
        default_status=(
            dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
        ),
        description="Judges costs for the first time as soon as the nodes are known.",
    )
    def first_costs_sensor(
        context: dg.SensorEvaluationContext, clock: dg.ResourceParam[Clock]
    ) -> dg.RunRequest | dg.SkipReason:
        instance = context.instance
        if instance.fetch_materializations(dg.AssetKey(COST_TABLE), limit=1).records:
            return dg.SkipReason("there is a cost report; the schedule makes the next one")
        if not instance.fetch_materializations(dg.AssetKey(NODES), limit=1).records:
            return dg.SkipReason("no inventory of nodes yet")
        if instance.get_runs_count(dg.RunsFilter(job_name=job_name, statuses=UNFINISHED)):
            return dg.SkipReason("the first report is being made")
        return dg.RunRequest(run_key=run_key_at(clock.now()))

    return first_costs_sensor


def run_key_at(now: datetime) -> str:
    """One run at most in each ten minutes."""
    slot = now.replace(minute=now.minute // TRY_MINUTES * TRY_MINUTES, second=0, microsecond=0)
    return f"first costs {slot.isoformat()}"
