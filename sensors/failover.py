"""When agents are moved: a long poll that decides several times a second, and launches at once.

Both sensors ask the one controller of their process (`ops.failover_watch`); the first launches what
moves single nodes, the second what moves a region.
"""

from collections.abc import Callable, Collection

import dagster as dg

from fleet.errors import StateroomError
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.inventory_watch import PollPolicy, plan_next_look
from fleet.ports.clock import PatientClock
from ops.failover_jobs import FAILOVER_JOB, REGION_FAILOVER_JOB, failover_request
from ops.failover_watch import FailoverWatch, Watched

INTERVAL_S = 4
"""Below 5, so that every pass of the sensor daemon (5 s) starts a tick."""

NODE_SENSOR, REGION_SENSOR = "node_failover_sensor", "region_failover_sensor"


def build_failover_sensors(*, running: bool) -> list[dg.SensorDefinition]:
    """The sensors of the group.

    Args:
        running: whether they run unless somebody stops them in the UI.
    """
    return [
        _sensor(
            NODE_SENSOR,
            FAILOVER_JOB,
            (OrderKind.NODE,),
            "Watches every node, and moves the agents of one that is lost.",
            running=running,
        ),
        _sensor(
            REGION_SENSOR,
            REGION_FAILOVER_JOB,
            (OrderKind.REGION, OrderKind.FAIL_BACK),
            "Evacuates a region that is lost, and lets its agents go home again.",
            running=running,
        ),
    ]


def _sensor(
    name: str, job: str, kinds: Collection[OrderKind], description: str, *, running: bool
) -> dg.SensorDefinition:
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=name,
        job_name=job,
        minimum_interval_seconds=INTERVAL_S,
        default_status=status,
        description=description,
    )
    def failover_sensor(
        context: dg.SensorEvaluationContext,
        failover_watch: dg.ResourceParam[FailoverWatch],
        clock: dg.ResourceParam[PatientClock],
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            orders, watched = watch(failover_watch, clock, kinds, context.cursor, context.log.info)
        except StateroomError as error:
            return dg.SkipReason(f"nothing can be decided: {error}")
        if not orders:
            context.update_cursor(watched.state)
            return dg.SkipReason(f"the controller is {watched.controller}; nothing is to be moved")
        return dg.SensorResult(
            run_requests=[failover_request(one) for one in orders], cursor=watched.state
        )

    return failover_sensor


def watch(
    failover_watch: FailoverWatch,
    clock: PatientClock,
    kinds: Collection[OrderKind],
    cursor: str | None,
    say: Callable[[str], object],
) -> tuple[tuple[FailoverOrder, ...], Watched]:
    """Look until something is to be launched, for a few seconds at most.

    Args:
        failover_watch: the controller.
        clock: what is waited on.
        kinds: orders that the caller launches.
        cursor: what an earlier tick kept.
        say: takes each sentence of a decision that changed something.
    """
    started_s = clock.monotonic_s()
    while True:
        began_s = clock.monotonic_s()
        watched = failover_watch.look(kinds, cursor)
        for sentence in watched.said:
            say(sentence)
        ended_s = clock.monotonic_s()
        pause_s = plan_next_look(ended_s - started_s, ended_s - began_s, PollPolicy())
        if watched.orders or pause_s is None or not clock.pause(pause_s):
            return watched.orders, watched
