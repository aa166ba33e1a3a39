"""When workloads are scaled: a look every 15 seconds, and at once when somebody orders a number.

The sensor asks the one controller of its process (`ops.rescaling_watch`), requests a run for what
is to be changed, and shows each look as an observation of the asset `scaling_decisions`.
"""

from collections.abc import Sequence

import dagster as dg

from fleet.errors import StateroomError
from fleet.rescaling.scale_order import ORDERS_MAX, ScaleOrder
from ops.rescaling import Look
from ops.rescaling_jobs import RESCALE_JOB, rescale_request
from ops.rescaling_reports import observations_of
from ops.rescaling_watch import RescalingWatch

INTERVAL_S = 4
"""Below 5, so that every pass of the sensor daemon (5 s) starts a tick: it keeps the lease and sees
what people order; a look is due every `tick_s` of the declaration."""

RESCALE_SENSOR = "rescale_sensor"


def build_rescale_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor of the group.

    Args:
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=RESCALE_SENSOR,
        job_name=RESCALE_JOB,
        minimum_interval_seconds=INTERVAL_S,
        default_status=status,
        description="Decides how many agents each workload is to have, and has it done.",
    )
    def rescale_sensor(
        context: dg.SensorEvaluationContext,
        rescaling_watch: dg.ResourceParam[RescalingWatch],
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            watched = rescaling_watch.watch()
        except StateroomError as error:
            return dg.SkipReason(f"nothing can be decided: {error}")
        look = watched.look
        if look is None:
            return dg.SkipReason(watched.reason)
        if not look.leads:
            return dg.SkipReason(f"this controller does not lead: {look.why_not}")
        for problem in look.problems:
            context.log.warning(problem)
        requests = [rescale_request(batch) for batch in batches(look.orders)]
        skip = None if requests else dg.SkipReason(quiet_reason(look))
        return dg.SensorResult(
            run_requests=requests or None,
            skip_reason=skip,
            asset_events=observations_of(look.decisions),
        )

    return rescale_sensor


def batches(orders: Sequence[ScaleOrder]) -> list[tuple[ScaleOrder, ...]]:
    """Orders in runs, none of them too long for a person to read."""
    return [
        tuple(orders[first : first + ORDERS_MAX]) for first in range(0, len(orders), ORDERS_MAX)
    ]


def quiet_reason(look: Look) -> str:
    """Why nothing is requested, as a fact."""
    count = len(look.decisions)
    if look.waiting:
        first = look.waiting[0]
        return (
            f"{len(look.waiting)} changes wait: {first.workload} in {first.region}, "
            f"{first.current} to {first.desired}"
        )
    return f"{count} workloads were looked at; nothing is to be changed"
