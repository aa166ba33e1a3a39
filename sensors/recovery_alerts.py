"""Tells somebody when a recovery point objective is missed, or will be; once for each change."""

import json

import dagster as dg

from fleet.backup_checks import agent_copies
from fleet.backup_declaration import BackupDeclaration
from fleet.backup_tables import OBJECTIVES
from fleet.errors import TransientError
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from fleet.ports.notifier import Alert, Notifier
from fleet.recovery_alerts import changed_alerts, recovery_alert
from ops.recovery_objectives import read_copies

INTERVAL_S = 29
"""Every sixth pass of the sensor daemon (5 s)."""


def build_rpo_alert_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor that watches recovery points.

    Args:
        running: whether it runs unless somebody stops it in the UI.
    """

    @dg.sensor(
        name="rpo_alert_sensor",
        minimum_interval_seconds=INTERVAL_S,
        default_status=(
            dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
        ),
        description="Says when more would be lost than the objective allows, before it is.",
    )
    def rpo_alert_sensor(
        context: dg.SensorEvaluationContext,
        backup_declaration: dg.ResourceParam[BackupDeclaration],
        lake: dg.ResourceParam[Lake],
        clock: dg.ResourceParam[Clock],
        notifier: dg.ResourceParam[Notifier],
    ) -> dg.SensorResult | dg.SkipReason:
        now = clock.now()
        copies = agent_copies(read_copies(lake, backup_declaration.regions))
        found = {
            f"recovery point of {copy.facts.network_id} in {copy.facts.region}": recovery_alert(
                copy, backup_declaration.rpo_max_s, backup_declaration.journal_interval_s, now
            )
            for copy in copies
        }
        alerts, memory = changed_alerts(decode_memory(context.cursor), found, now)
        if not alerts:
            context.update_cursor(json.dumps(memory))
            return dg.SkipReason(f"{len(found) - len(memory)} of {len(found)} copies hold")
        try:
            for alert in alerts:
                notifier.notify(alert)
        except TransientError as error:
            return dg.SkipReason(f"nobody was reached: {error}")
        return dg.SensorResult(
            asset_events=[_observation(alert) for alert in alerts], cursor=json.dumps(memory)
        )

    return rpo_alert_sensor


def _observation(alert: Alert) -> dg.AssetObservation:
    """The alert in the history of the asset that it is about."""
    return dg.AssetObservation(
        OBJECTIVES,
        description=f"{alert.subject}: {alert.text}",
        partition=alert.subject.rpartition(" in ")[2],
        metadata={"alert": alert.subject, "severity": alert.severity, "text": alert.text},
    )


def decode_memory(cursor: str | None) -> dict[str, str]:
    """How each subject stood when it was told last; nothing from an unknown cursor."""
    try:
        found = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
