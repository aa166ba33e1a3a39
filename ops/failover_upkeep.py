"""Forgets old placements, so that the control store stays small; placements in force stay.

Short transactions remove what is too old, and find nothing when they are repeated.
"""

from datetime import timedelta

import dagster as dg

from fleet.failover_declaration import FailoverDeclaration
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from ops.outcomes import outcomes


@dg.op(ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def trim_placements_op(
    context: dg.AssetExecutionContext,
    control_store: dg.ResourceParam[ControlStore],
    failover_declaration: dg.ResourceParam[FailoverDeclaration],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Remove rows of the history that are older than the settings keep; say how many there were."""
    before = clock.now() - timedelta(days=failover_declaration.keep_history_days)
    with outcomes(context.op_execution_context.retry_number):
        removed = control_store.trim_placement_history(before)
    context.add_asset_metadata(
        {
            "placements_removed": removed,
            "kept_since": before.isoformat(timespec="seconds"),
            "keep_days": failover_declaration.keep_history_days,
        }
    )
