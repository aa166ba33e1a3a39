"""When the platform tidies up after itself: once a night, at an hour of its own for each job."""

import dagster as dg

LAKE_UPKEEP_JOB, RUN_HISTORY_JOB = "lake_upkeep_job", "prune_run_history_job"
ACTIVITY_HISTORY_JOB = "trim_activities_job"
PLACEMENT_HISTORY_JOB = "trim_placements_job"


def build_upkeep_schedules() -> list[dg.ScheduleDefinition]:
    """Four nightly schedules; after a downtime only the latest missed night is made up for."""
    return [
        _nightly(LAKE_UPKEEP_JOB, "17 3", "Merges finished days of the lake and removes old ones."),
        _nightly(ACTIVITY_HISTORY_JOB, "32 3", "Forgets old activities of agents."),
        _nightly(PLACEMENT_HISTORY_JOB, "37 3", "Forgets where agents were placed long ago."),
        _nightly(RUN_HISTORY_JOB, "47 3", "Forgets old runs of Dagster."),
    ]


def _nightly(job_name: str, minute_hour: str, description: str) -> dg.ScheduleDefinition:
    """The schedule of an upkeep job, named after it.

    Args:
        job_name: ends in `_job`.
        minute_hour: of each day, UTC, as cron writes them.
        description: what the job does.
    """
    return dg.ScheduleDefinition(
        name=f"{job_name.removesuffix('_job')}_schedule",
        job_name=job_name,
        cron_schedule=f"{minute_hour} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
