"""When routers are brought up to date: a long poll of its own, beside the failover's.

A router that hangs delays neither a decision about failover nor another router: the keeper gives
each its tables in a thread of its own. What has changed becomes a materialization of
`service_routes`, once a minute at most, however busy the fleet is.
"""

import dagster as dg

from assets.routes import SERVICE_ROUTES
from fleet.errors import StateroomError
from fleet.inventory_watch import PollPolicy, plan_next_look
from fleet.ports.clock import PatientClock
from fleet.ports.control_store import ControlStore
from ops.failover_watch import FailoverWatch
from ops.route_keeping import Kept, RouteKeeper

SENSOR = "route_keeper_sensor"

INTERVAL_S = 4
"""Below 5, so that every pass of the sensor daemon (5 s) starts a tick."""

EVIDENCE_S = 60.0
"""Shortest time between two materializations: 1,440 a day at most."""


def build_route_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor that keeps routes.

    Args:
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=INTERVAL_S,
        default_status=status,
        description="Keeps every router as the service registry is, between failovers.",
    )
    def route_keeper_sensor(
        context: dg.SensorEvaluationContext,
        control_store: dg.ResourceParam[ControlStore],
        failover_watch: dg.ResourceParam[FailoverWatch],
        route_keeper: dg.ResourceParam[RouteKeeper],
        clock: dg.ResourceParam[PatientClock],
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            last = keep(control_store, failover_watch, route_keeper, clock)
        except StateroomError as error:
            return dg.SkipReason(f"tried again at the next look: {error}")
        now_s = clock.now().timestamp()
        if not route_keeper.has_said() or now_s - reported_s(context.cursor) < EVIDENCE_S:
            return dg.SkipReason(in_words(last))
        said = route_keeper.take_said()
        for sentence in said:
            context.log.info(sentence)
        return dg.SensorResult(asset_events=[evidence(last, said)], cursor=f"{now_s:.3f}")

    return route_keeper_sensor


def keep(
    store: ControlStore, watch: FailoverWatch, keeper: RouteKeeper, clock: PatientClock
) -> Kept:
    """Look for a few seconds, as often as is due; returns the last look that was one.

    Args:
        store: the control store.
        watch: says whether this process leads.
        keeper: keeps.
        clock: what is waited on.
    """
    started_s = clock.monotonic_s()
    last = Kept(idle="nothing was due")
    while True:
        began_s = clock.monotonic_s()
        kept = keeper.look(store, watch.standing())
        if not kept.idle or last.idle:
            last = kept
        ended_s = clock.monotonic_s()
        pause_s = plan_next_look(ended_s - started_s, ended_s - began_s, PollPolicy())
        if pause_s is None or not clock.pause(pause_s):
            return last


def reported_s(cursor: str | None) -> float:
    """When evidence was reported last, seconds since 1970; 0 from an unknown cursor."""
    try:
        return float(cursor or 0.0)
    except ValueError:
        return 0.0


def in_words(kept: Kept) -> str:
    """A look as a sentence."""
    if kept.idle:
        return f"routes are left as they are: {kept.idle}"
    return (
        f"{kept.services} services with {kept.endpoints} endpoints, {kept.withheld} withheld; "
        f"{sum(one.changed for one in kept.outcomes.values())} tables were new"
    )


def evidence(kept: Kept, said: tuple[str, ...]) -> dg.AssetMaterialization:
    """What routers have now, and what has changed since it was reported last."""
    return dg.AssetMaterialization(
        SERVICE_ROUTES,
        description=said[-1] if said else in_words(kept),
        metadata={
            "term": kept.term,
            "services": kept.services,
            "endpoints": kept.endpoints,
            "endpoints_withheld": kept.withheld,
            "changes": dg.MetadataValue.md("\n".join(f"- {one}" for one in said)),
        },
    )
