"""The job of rescaling: what a look ordered, carried out step by step."""

from typing import Any

import dagster as dg
from pydantic import Field

from fleet.errors import NodeUnavailableError
from fleet.ports.clock import PatientClock
from fleet.ports.cluster import FleetScaler
from fleet.ports.control_store import ControlStore
from fleet.ports.metric_store import MetricStore
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.scale_order import ScaleOrder, batch_key, decode_orders, encode_orders
from ops.evidence import number_evidence
from ops.inventory_jobs import RUN_CLASS
from ops.outcomes import outcomes
from ops.rescaling_run import ScalingRunPorts, recheck, scale, wait_ready
from ops.scaling_observation import open_sessions

RESCALE_JOB = "rescale_job"
RESCALING_CLASS = {RUN_CLASS: "rescaling"}

_NAMED = 20
"""Things named in metadata."""


class ScaleConfig(dg.Config):
    """What to do, as the controller orders it."""

    orders: str = Field(description="As `fleet.rescaling.scale_order.encode_orders` writes them.")


def rescale_request(orders: tuple[ScaleOrder, ...]) -> dg.RunRequest:
    """Ask for the run of some orders; asked twice, it runs once."""
    first = orders[0]
    more = f" and {len(orders) - 1} more" if len(orders) > 1 else ""
    said = f"{first.workload} in {first.region}: {first.current} to {first.desired}{more}"
    return dg.RunRequest(
        run_key=batch_key(orders),
        job_name=RESCALE_JOB,
        run_config={"ops": {"recheck_scale_op": {"config": {"orders": encode_orders(orders)}}}},
        tags={"stateroom/subject": "rescaling", "stateroom/reason": said[:200]},
    )


def scaling_ports(
    store: ControlStore,
    cluster: FleetScaler,
    clock: PatientClock,
    declaration: RescalingDeclaration,
    metric_store: MetricStore | None = None,
) -> ScalingRunPorts:
    """The world of a run, made of the resources it has."""

    def sessions() -> Any:
        if metric_store is None:
            return "there is no source of metrics"
        from fleet.promql.engine import PromqlEngine

        lookback_ms = round(declaration.sample_age_max_s * 1000)
        return open_sessions(PromqlEngine(metric_store, lookback_ms=lookback_ms), clock.now())

    return ScalingRunPorts(store, cluster, clock, declaration, sessions)


@dg.op(description="Look again: is the term ours, does the plan still hold, who allows it?")
def recheck_scale_op(
    context: dg.OpExecutionContext,
    config: ScaleConfig,
    control_store: dg.ResourceParam[ControlStore],
    cluster: dg.ResourceParam[FleetScaler],
    clock: dg.ResourceParam[PatientClock],
    rescaling_declaration: dg.ResourceParam[RescalingDeclaration],
) -> str:
    """The orders; what is left of them is looked at again by the next step."""
    orders = decode_orders(config.orders)
    ports = scaling_ports(control_store, cluster, clock, rescaling_declaration)
    with outcomes(context.retry_number):
        left = recheck(ports, orders)
    context.add_output_metadata(
        {
            "changes": len(left.wishes),
            "dropped": list(left.dropped[:_NAMED]),
            "because": [one.reason for one in left.wishes[:_NAMED]],
        }
    )
    return config.orders


@dg.op(description="Scale through the cluster: one transaction for all, then place what is new.")
def scale_op(
    context: dg.OpExecutionContext,
    orders: str,
    control_store: dg.ResourceParam[ControlStore],
    cluster: dg.ResourceParam[FleetScaler],
    clock: dg.ResourceParam[PatientClock],
    rescaling_declaration: dg.ResourceParam[RescalingDeclaration],
    metric_store: dg.ResourceParam[MetricStore],
) -> str:
    """The same orders; the changes are in force."""
    given = decode_orders(orders)
    ports = scaling_ports(control_store, cluster, clock, rescaling_declaration, metric_store)
    with outcomes(context.retry_number):
        results = scale(ports, given, recheck(ports, given).wishes)
    made = [one for one in results if one.made]
    context.add_output_metadata(
        number_evidence(
            {"workloads_scaled": len(made), "placements_changed": sum(len(m.placed) for m in made)}
        )
    )
    return orders


@dg.op(
    out=dg.Out(dg.Nothing), description="Wait until the agents run; fail, naming those that do not."
)
def await_agents_op(
    context: dg.OpExecutionContext,
    orders: str,
    control_store: dg.ResourceParam[ControlStore],
    cluster: dg.ResourceParam[FleetScaler],
    clock: dg.ResourceParam[PatientClock],
    rescaling_declaration: dg.ResourceParam[RescalingDeclaration],
) -> None:
    """Agents that wait for room are told of and fail nothing: the reason stands in their rows."""
    given = decode_orders(orders)
    ports = scaling_ports(control_store, cluster, clock, rescaling_declaration)
    with outcomes(context.retry_number):
        seen = wait_ready(ports, given, rescaling_declaration.ready_timeout_s)
        context.add_output_metadata(
            {
                **number_evidence(
                    {
                        "agents_running": seen.ready,
                        "agents_waiting": len(seen.waiting),
                        "agents_parked": len(seen.parked),
                    }
                ),
                "named": list((*seen.waiting, *seen.parked)[:_NAMED]),
            }
        )
        if seen.waiting:
            raise NodeUnavailableError(
                f"{len(seen.waiting)} agents do not run yet: {'; '.join(seen.waiting[:5])}",
                hint="stateroom agents; their nodes go on trying.",
            )


@dg.job(
    name=RESCALE_JOB,
    description="Makes the changes of scale that the controller of rescaling has decided.",
    tags=RESCALING_CLASS,
    executor_def=dg.in_process_executor,
)
def rescale_job() -> None:
    """Look again, scale, wait."""
    await_agents_op(scale_op(recheck_scale_op()))
