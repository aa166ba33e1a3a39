"""When FAISS files of services are looked at."""

import dagster as dg

from ops.adopted_indexes import LOOK_JOB


def build_look_schedule(cron: str, *, running: bool) -> dg.ScheduleDefinition:
    """Daily, with the scrub of the platform's own indexes.

    Args:
        cron: UTC.
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return dg.ScheduleDefinition(
        name=f"{LOOK_JOB.removesuffix('_job')}_schedule",
        job_name=LOOK_JOB,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=status,
        description="Opens, searches and measures the adopted indexes of services.",
    )
