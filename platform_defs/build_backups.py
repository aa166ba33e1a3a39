"""The part of the definitions that backs up: assets, checks, jobs, schedules and sensors."""

from typing import Any, NamedTuple

import dagster as dg

from assets.backup_checks import CLAIMS, build_backup_checks
from assets.backups import build_backup_assets, build_journal_spec
from fleet.backup_declaration import BackupDeclaration
from fleet.backup_schedule import BackupCrons
from fleet.backup_tables import CATALOG, OBJECTIVES, PLAN, REPLICAS, SNAPSHOTS, VERIFICATIONS
from ops.backup_jobs import (
    BACKUP_CLASS,
    BACKUP_JOB,
    DRILL_JOB,
    OBJECTIVES_JOB,
    PROOF_CLASS,
    REPLICATE_JOB,
    RESTORE_CLASS,
    RESTORE_JOB,
    RESTORE_TEST_JOB,
    RETENTION_JOB,
    SCRUB_JOB,
    VERIFY_JOB,
    job_config,
)
from ops.restores import build_restore_job
from sensors.backup_journal import build_state_journal_sensor
from sensors.backup_schedules import build_backup_schedules
from sensors.backups import build_backup_sensors
from sensors.recovery_alerts import build_rpo_alert_sensor


class BackupDefinitions(NamedTuple):
    """What the code location gains."""

    assets: list[dg.AssetsDefinition | dg.AssetSpec]
    checks: list[dg.AssetChecksDefinition]
    jobs: list[Any]
    schedules: list[dg.ScheduleDefinition]
    sensors: list[dg.SensorDefinition]


def build_backups(declaration: BackupDeclaration, crons: BackupCrons) -> BackupDefinitions:
    """Everything about backups; where they are disabled it is there, and stopped."""
    return BackupDefinitions(
        assets=[
            build_journal_spec(declaration.vault_networks),
            *build_backup_assets(declaration.vault_networks, declaration.regions),
        ],
        checks=build_backup_checks(),
        jobs=build_backup_jobs(),
        schedules=build_backup_schedules(crons, running=declaration.enabled),
        sensors=[
            *build_backup_sensors(running=declaration.enabled),
            build_state_journal_sensor(declaration.journal_interval_s, running=declaration.enabled),
            build_rpo_alert_sensor(running=declaration.enabled),
        ],
    )


def build_backup_jobs() -> list[Any]:
    """The jobs of the group; `stateroom backups` starts the same ones."""
    return [
        _job(
            BACKUP_JOB,
            (SNAPSHOTS, CATALOG, PLAN),
            "Takes a snapshot of each network; lists what the vault holds, and would forget.",
            BACKUP_CLASS,
        ),
        _job(
            RETENTION_JOB,
            (PLAN,),
            "Applies the retention plan: forgets snapshots, frees space, trims the journal.",
            PROOF_CLASS,
        ),
        _job(
            RESTORE_TEST_JOB,
            (VERIFICATIONS, OBJECTIVES),
            "Restores snapshots into an isolated place and opens them as their applications do.",
            PROOF_CLASS,
        ),
        _job(
            DRILL_JOB,
            (VERIFICATIONS, OBJECTIVES),
            "Brings each region's copy back with the recovery key alone, and measures how long.",
            PROOF_CLASS,
        ),
        _job(
            REPLICATE_JOB,
            (REPLICAS, VERIFICATIONS, OBJECTIVES),
            "Copies snapshots to every region, proves each copy whole (V1), says what is at risk.",
            PROOF_CLASS,
        ),
        _job(
            VERIFY_JOB,
            (VERIFICATIONS, OBJECTIVES),
            "Proves every region's copy whole (V1).",
            PROOF_CLASS,
        ),
        _job(
            SCRUB_JOB,
            (VERIFICATIONS, OBJECTIVES),
            "Hashes what is stored (V2), opens what is in it (V3), heals from other regions.",
            PROOF_CLASS,
        ),
        build_restore_job(RESTORE_JOB, RESTORE_CLASS),
        dg.define_asset_job(
            OBJECTIVES_JOB,
            selection=dg.AssetSelection.assets(OBJECTIVES)
            | dg.AssetSelection.checks_for_assets(*CLAIMS),
            tags=PROOF_CLASS,
            description="Says what a disaster would cost now, and judges every claim anew.",
        ),
    ]


def _job(name: str, tables: tuple[str, ...], description: str, tags: dict[str, str]) -> Any:
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*tables),
        tags=tags,
        description=description,
        config=job_config(name) or None,
    )
