"""Jobs of the inventory, and how a run is told which regions to take."""

from collections.abc import Sequence

import dagster as dg

INVENTORY_JOB, INVENTORY_CHECKS_JOB = "inventory_job", "inventory_checks_job"

RUN_CLASS = "stateroom/class"
"""Tag that the queue's limits are set by; see dagster.yaml."""

INVENTORY_CLASS = {RUN_CLASS: "inventory"}

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def inventory_request(regions: Sequence[str], run_key: str, reason: str) -> dg.RunRequest:
    """Ask for one run over neighbouring regions.

    Args:
        regions: sorted neighbours among the declared regions: one of them, or all.
        run_key: unique for each request.
        reason: shown with the run.
    """
    tags = {RANGE_START: regions[0], RANGE_END: regions[-1], "stateroom/reason": reason[:200]}
    return dg.RunRequest(run_key=run_key, tags=tags)
