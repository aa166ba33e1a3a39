"""The report about failover, and how a run of it is asked for."""

from collections.abc import Sequence

import dagster as dg

from ops.inventory_jobs import RANGE_END, RANGE_START, RUN_CLASS

FAILOVER_REPORT_JOB = "failover_report_job"

REPORT_CLASS = {RUN_CLASS: "failover_report"}
"""Reports queue apart from failovers: a move waits for none of them."""


def report_request(regions: Sequence[str], run_key: str, reason: str) -> dg.RunRequest:
    """Ask for one report about all regions.

    Args:
        regions: all declared, sorted.
        run_key: unique for each request.
        reason: shown with the run.
    """
    tags = {RANGE_START: regions[0], RANGE_END: regions[-1], "stateroom/reason": reason[:200]}
    return dg.RunRequest(run_key=run_key, job_name=FAILOVER_REPORT_JOB, tags=tags)
