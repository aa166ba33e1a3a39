"""What a disaster would cost, and what is proven of the copies."""

from __future__ import annotations

from dashboards.shape import Dashboard, Panel

BACKUPS = Dashboard(
    "backups",
    "Stateroom / Backups and recovery",
    (
        Panel(
            "What would be lost now (RPO), worst network",
            [
                (
                    'max by (region) (stateroom_recovery_point_age_seconds{network="_worst"})',
                    "{{region}}",
                )
            ],
            "s",
            thresholds=(1800, 3600),
        ),
        Panel(
            "How long recovery took (RTO), worst network",
            [
                (
                    'max by (region) (stateroom_recovery_time_seconds{network="_worst"})',
                    "{{region}}",
                )
            ],
            "s",
            thresholds=(7200, 14400),
        ),
        Panel(
            "Age of the newest backup, worst network",
            [
                (
                    'max by (region) (stateroom_backup_age_seconds{network="_worst"})',
                    "{{region}}",
                )
            ],
            "s",
            thresholds=(3600, 7200),
        ),
        Panel(
            "Lag of replicas, worst network",
            [
                (
                    'max by (region) (stateroom_replica_lag_seconds{network="_worst"})',
                    "{{region}}",
                )
            ],
            "s",
            thresholds=(1800, 3600),
        ),
        Panel(
            "Age of the proof, by level",
            [
                (
                    'max by (level) (stateroom_backup_verified_age_seconds{network="_worst"})',
                    "{{level}}",
                )
            ],
            "s",
        ),
        Panel(
            "Verifications that fail",
            [
                (
                    "max by (region, network, level) (stateroom_backup_verification_failing) > 0",
                    "",
                )
            ],
            kind="table",
        ),
        Panel(
            "RPO by network",
            [
                (
                    'max by (network) (stateroom_recovery_point_age_seconds{network!="_worst"})',
                    "{{network}}",
                )
            ],
            "s",
            width=24,
        ),
    ),
)
