"""The first cost report is asked for as soon as there is something to report on, and once."""

from __future__ import annotations

import dagster as dg

from fleet.costs.report import COST_TABLE
from ops.inventory import NODES
from sensors.costs import build_first_costs_sensor
from tests.fakes.clock import ManualClock

JOB = "costs_job"


@dg.op
def nothing_op() -> None:
    """Of a job that is only named."""


@dg.job(name=JOB)
def costs_job() -> None:
    """Stands for the job that is asked for."""
    nothing_op()


def tick(instance: dg.DagsterInstance, clock: ManualClock) -> str:
    """One look: the key of the run that is asked for, or why none is."""
    sensor = build_first_costs_sensor(JOB, running=True)
    with dg.build_sensor_context(
        instance=instance,
        definitions=dg.Definitions(jobs=[costs_job], sensors=[sensor]),
        resources={"clock": clock},
    ) as context:
        data = sensor.evaluate_tick(context)
    return (data.run_requests[0].run_key or "") if data.run_requests else str(data.skip_message)


def test_the_first_report_waits_for_an_inventory_and_no_longer() -> None:
    """One run in ten minutes until there is a report; from then on the schedule makes them."""
    clock = ManualClock()
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(instance, clock) == "no inventory of nodes yet"
        instance.report_runless_asset_event(dg.AssetMaterialization(NODES, partition="eu"))
        first = tick(instance, clock)
        assert first.startswith("first costs ")
        clock.advance(60)
        assert tick(instance, clock) == first
        waiting = instance.create_run_for_job(costs_job, status=dg.DagsterRunStatus.STARTED)
        assert tick(instance, clock) == "the first report is being made"
        instance.report_run_failed(waiting)
        clock.advance(600)
        assert tick(instance, clock) not in {first, ""}
        instance.report_runless_asset_event(dg.AssetMaterialization(COST_TABLE))
        assert tick(instance, clock).startswith("there is a cost report")
