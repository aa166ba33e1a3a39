"""When the inventory is taken: at once when the fleet changes, and every two minutes anyway."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import dagster as dg

from fleet.declaration import FleetDeclaration
from fleet.errors import StateroomError
from fleet.inventory_watch import (
    RegionLook,
    WatchCursor,
    WatchPolicy,
    decide_inventory_run,
    decode_cursor,
    encode_cursor,
    group_regions,
    look_at_region,
    unreadable_look,
)
from fleet.ports.clock import Clock
from fleet.ports.cluster import FleetReader
from ops.inventory_jobs import INVENTORY_JOB, inventory_request

INTERVAL_S = 4
"""Below 5, so that every pass of the sensor daemon (5 s) takes a look."""

WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]


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


def _requests(
    groups: tuple[tuple[str, ...], ...], now: datetime, reason: str
) -> Iterator[dg.RunRequest]:
    """One request for each group; the key holds the time, so a lost cursor repeats no old key."""
    for group in groups:
        yield inventory_request(group, f"inventory {now.isoformat()} {group[0]}", reason)


def build_fleet_change_sensor() -> dg.SensorDefinition:
    """The sensor that looks at the fleet every few seconds."""

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
        clock: dg.ResourceParam[Clock],
    ) -> dg.SensorResult | dg.SkipReason:
        now = clock.now()
        looks = take_looks(cluster, fleet_declaration, now)
        verdict = decide_inventory_run(decode_cursor(context.cursor), looks, now, WatchPolicy())
        if not verdict.groups:
            return dg.SkipReason(verdict.reason)
        waiting = dg.RunsFilter(job_name=INVENTORY_JOB, statuses=WAITING)
        if context.instance.get_runs_count(waiting):
            return dg.SkipReason(f"an inventory is queued already, it will see: {verdict.reason}")
        return dg.SensorResult(
            run_requests=list(_requests(verdict.groups, now, verdict.reason)),
            cursor=encode_cursor(WatchCursor(now, looks)),
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
