"""Jobs of failover, and how a run is told what to do."""

from typing import Any

import dagster as dg

from fleet.failover_order import FailoverOrder, OrderKind, encode_order
from ops.inventory_jobs import RUN_CLASS

FAILOVER_JOB, REGION_FAILOVER_JOB = "failover_job", "region_failover_job"

FAILOVER_CLASS = {RUN_CLASS: "failover"}

INCIDENT = "stateroom/incident"
"""Tag that leads from a run to its incident, and back."""

PRIORITY = {"dagster/priority": "10"}
"""A failover waits for no backup."""

JOB_OF = {
    OrderKind.NODE: FAILOVER_JOB,
    OrderKind.REGION: REGION_FAILOVER_JOB,
    OrderKind.FAIL_BACK: REGION_FAILOVER_JOB,
}


def failover_config(order: FailoverOrder) -> dict[str, Any]:
    """Run config of either job."""
    return {"ops": {"recheck_op": {"config": {"order": encode_order(order)}}}}


def failover_request(order: FailoverOrder) -> dg.RunRequest:
    """Ask for the run of an order; asked twice, it runs once."""
    return dg.RunRequest(
        run_key=f"{order.incident_id}/{order.kind}/{order.subject}/{order.label}/{order.term}",
        job_name=JOB_OF[order.kind],
        run_config=failover_config(order),
        tags={
            INCIDENT: order.incident_id,
            "stateroom/subject": order.subject,
            "stateroom/reason": order.because[:200],
            **PRIORITY,
        },
    )
