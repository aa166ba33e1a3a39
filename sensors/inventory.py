"""When the inventory is taken: at once when the fleet changes, and every two minutes anyway.

The sensor daemon passes every 5 s, too rarely to see a change at once. A tick is therefore a long
poll: it looks at the fleet again and again until there is something to do, or its time is over.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

import dagster as dg

from fleet.declaration import FleetDeclaration
from fleet.errors import StateroomError
from fleet.inventory_watch import (
    InventoryRunVerdict,
    PollPolicy,
    RegionLook,
    WatchCursor,
    WatchPolicy,
    decide_inventory_run,
    decode_cursor,
    encode_cursor,
    group_regions,
    look_at_region,
    plan_next_look,
    unreadable_look,
)
from fleet.ports.clock import Clock, PatientClock
from fleet.ports.cluster import FleetReader
from ops.inventory_jobs import INVENTORY_JOB, inventory_request

INTERVAL_S = 4
"""Below 5, so that every pass of the sensor daemon (5 s) starts a tick."""

WAITING = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
]
"""Of a run that has not looked at the fleet yet."""


def take_looks(
    cluster: FleetReader, declaration: FleetDeclaration, now: datetime
) -> dict[str, RegionLook]:
    """Look at the nodes of every declared region; a region that fails is a look like any other."""
    looks = {}
    for region in declaration.regions:
        try:
            nodes = cluster.nodes(region)
        except StateroomError as error:
            looks[region] = unreadable_look(error)
        else:
            looks[region] = look_at_region(nodes, now, declaration.heartbeats)
    return looks


class FleetWatch(NamedTuple):
    """What the last look of a tick found."""

    at: datetime
    looks: Mapping[str, RegionLook]
    verdict: InventoryRunVerdict


def watch_fleet(
    cluster: FleetReader,
    declaration: FleetDeclaration,
    clock: PatientClock,
    before: WatchCursor | None,
    is_queued: Callable[[], bool],
) -> FleetWatch:
    """Look until an inventory is to be taken, for a few seconds at most.

    Args:
        cluster: what is looked at.
        declaration: its regions.
        clock: what is waited on.
        before: what the last requested inventory was based on.
        is_queued: whether an inventory waits to be taken; it will see the change, so another one
            is not asked for while it waits.
    """
    started_s = clock.monotonic_s()
    while True:
        at, began_s = clock.now(), clock.monotonic_s()
        looks = take_looks(cluster, declaration, at)
        verdict = decide_inventory_run(before, looks, at, WatchPolicy())
        if verdict.groups and is_queued():
            reason = f"an inventory is queued already, it will see: {verdict.reason}"
            verdict = InventoryRunVerdict((), reason)
        ended_s = clock.monotonic_s()
        pause_s = plan_next_look(ended_s - started_s, ended_s - began_s, PollPolicy())
        if verdict.groups or pause_s is None or not clock.pause(pause_s):
            return FleetWatch(at, looks, verdict)


def _requests(
    groups: tuple[tuple[str, ...], ...], now: datetime, reason: str
) -> Iterator[dg.RunRequest]:
    """One request for each group; the key holds the time, so a lost cursor repeats no old key."""
    for group in groups:
        yield inventory_request(group, f"inventory {now.isoformat()} {group[0]}", reason)


def build_fleet_change_sensor() -> dg.SensorDefinition:
    """The sensor that looks at the fleet several times a second."""

    @dg.sensor(
        name="fleet_change_sensor",
        job_name=INVENTORY_JOB,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Takes the inventory when a node changes; for changes of agents, calmly.",
    )
    def fleet_change_sensor(
        context: dg.SensorEvaluationContext,
        cluster: dg.ResourceParam[FleetReader],
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
        clock: dg.ResourceParam[PatientClock],
    ) -> dg.SensorResult | dg.SkipReason:
        waiting = dg.RunsFilter(job_name=INVENTORY_JOB, statuses=WAITING)
        at, looks, verdict = watch_fleet(
            cluster,
            fleet_declaration,
            clock,
            decode_cursor(context.cursor),
            lambda: context.instance.get_runs_count(waiting) > 0,
        )
        if not verdict.groups:
            return dg.SkipReason(verdict.reason)
        return dg.SensorResult(
            run_requests=list(_requests(verdict.groups, at, verdict.reason)),
            cursor=encode_cursor(WatchCursor(at, looks)),
        )

    return fleet_change_sensor


def build_inventory_schedule() -> dg.ScheduleDefinition:
    """The schedule that takes the inventory whether or not something has changed."""

    @dg.schedule(
        name="inventory_schedule",
        job_name=INVENTORY_JOB,
        cron_schedule="*/2 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Takes the inventory every two minutes, so that its age is bounded.",
    )
    def inventory_schedule(
        context: dg.ScheduleEvaluationContext,
        cluster: dg.ResourceParam[FleetReader],
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
        clock: dg.ResourceParam[Clock],
    ) -> list[dg.RunRequest]:
        looks: Mapping[str, RegionLook] = take_looks(cluster, fleet_declaration, clock.now())
        at = context.scheduled_execution_time
        return list(_requests(group_regions(looks), at, "every two minutes"))

    return inventory_schedule
