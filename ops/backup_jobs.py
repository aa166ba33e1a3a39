"""Jobs of backups, and how a run is told which networks or regions to take."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dagster as dg

from fleet.backup_tables import PLAN, VERIFICATIONS
from ops.inventory_jobs import RANGE_END, RANGE_START, RUN_CLASS

BACKUP_JOB, REPLICATE_JOB = "backup_job", "replicate_job"
VERIFY_JOB, SCRUB_JOB = "verify_job", "scrub_job"
RETENTION_JOB = "retention_job"
RESTORE_TEST_JOB, DRILL_JOB = "restore_test_job", "drill_job"
RESTORE_JOB = "restore_job"
OBJECTIVES_JOB = "recovery_objectives_job"

BACKUP_CLASS = {RUN_CLASS: "backup"}
PROOF_CLASS = {RUN_CLASS: "proof"}
"""Replication and proof queue apart from snapshots: a long scrub must not delay one."""

RESTORE_CLASS = {RUN_CLASS: "restore"}
"""Restores wait for nothing but a free worker."""

DUTY = "stateroom/duty"
"""Tag that says which recurring duty a run fulfils, by whatever it was started."""

REASON_MAX_CHARS = 200

JOB_LEVELS = {SCRUB_JOB: ("V2", "V3"), RESTORE_TEST_JOB: ("V4",), DRILL_JOB: ("V5",)}
"""Job -> levels that it verifies on; the others verify V1 or nothing."""


def asset_config(table: str, op: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Run config of one op inside the graph of an asset."""
    return {"ops": {table: {"ops": {op: {"config": dict(config)}}}}}


def job_config(job: str) -> dict[str, Any]:
    """Run config that a job is started with; empty where the defaults are meant."""
    if job == RETENTION_JOB:
        return asset_config(PLAN, "retain_snapshots_op", {"apply": True})
    levels = JOB_LEVELS.get(job)
    if levels is None:
        return {}
    config = {"levels": list(levels), "heal": job == SCRUB_JOB}
    return asset_config(VERIFICATIONS, "verify_op", config)


def partition_runs(declared: Sequence[str], due: Collection[str]) -> list[tuple[str, str]]:
    """First and last partition of each run: neighbours among the declared share one.

    Args:
        declared: all partitions, in the order of the assets' definition.
        due: those that a run is wanted for; unknown ones are left out.
    """
    runs: list[tuple[str, str]] = []
    adjacent = False
    for partition in declared:
        if partition not in due:
            adjacent = False
            continue
        first = runs.pop()[0] if adjacent else partition
        runs.append((first, partition))
        adjacent = True
    return runs


def backup_requests(
    job: str,
    declared: Sequence[str],
    due: Collection[str],
    key: str,
    duty: str,
    reason: str,
    run_config: Mapping[str, Any] | None = None,
) -> list[dg.RunRequest]:
    """Ask for as few runs of a job as its partitions allow.

    Args:
        job: name of the job.
        declared: all partitions, in the order of the assets' definition.
        due: those that are wanted.
        key: unique for each occasion.
        duty: which recurring duty the runs fulfil.
        reason: shown with each run.
        run_config: in place of the job's own (`job_config`).
    """
    return [
        dg.RunRequest(
            run_key=f"{key} {first}",
            job_name=job,
            run_config=dict(run_config or job_config(job)),
            tags={
                RANGE_START: first,
                RANGE_END: last,
                DUTY: duty,
                "stateroom/reason": reason[:REASON_MAX_CHARS],
            },
        )
        for first, last in partition_runs(declared, due)
    ]
