"""When the platform tidies up after itself: once a night, at an hour of its own for each job."""

import dagster as dg

LAKE_UPKEEP_JOB, RUN_HISTORY_JOB = "lake_upkeep_job", "prune_run_history_job"
ACTIVITY_HISTORY_JOB = "trim_activities_job"


def build_upkeep_schedules() -> list[dg.ScheduleDefinition]:
    """Three nightly schedules; after a downtime only the latest missed night is made up for."""
    return [
        dg.ScheduleDefinition(
            name="lake_upkeep_schedule",
            job_name=LAKE_UPKEEP_JOB,
            cron_schedule="17 3 * * *",
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Merges finished days of the lake and removes old ones.",
        ),
        dg.ScheduleDefinition(
            name="trim_activities_schedule",
            job_name=ACTIVITY_HISTORY_JOB,
            cron_schedule="32 3 * * *",
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Forgets old activities of agents.",
        ),
        dg.ScheduleDefinition(
            name="prune_run_history_schedule",
            job_name=RUN_HISTORY_JOB,
            cron_schedule="47 3 * * *",
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Forgets old runs of Dagster.",
        ),
    ]
