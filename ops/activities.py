"""Forgets old activities, so that the control store stays small; notes and states stay.

One statement removes what is too old, and finds nothing when it is repeated.
"""

from datetime import timedelta

import dagster as dg

from fleet.agents import ActivityPolicy
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from ops.outcomes import outcomes


@dg.op(ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def trim_activities_op(
    context: dg.AssetExecutionContext,
    control_store: dg.ResourceParam[ControlStore],
    activity_policy: dg.ResourceParam[ActivityPolicy],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Remove activities that are older than the policy keeps, and record how many there were."""
    before = clock.now() - timedelta(days=activity_policy.keep_days)
    with outcomes(context.op_execution_context.retry_number):
        removed = control_store.trim_activities(before)
    context.add_asset_metadata(
        {
            "activities_removed": removed,
            "kept_since": before.isoformat(timespec="seconds"),
            "keep_days": activity_policy.keep_days,
        }
    )
