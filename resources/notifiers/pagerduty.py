"""Alerts as PagerDuty events, through Dagster's PagerDuty integration (an extra).

PagerDuty joins events by their key: a repeated one wakes nobody twice, and the end resolves it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from fleet.errors import PermanentError, ReceiverUnavailableError
from fleet.ports.notifier import Alert
from resources.notifiers.extras import missing_extra

_SEVERITIES = {"error": "critical", "warn": "warning"}
_KEY_MAX_CHARS = 255
_SUMMARY_MAX_CHARS = 1024


class PagerDutyNotifier:
    """Sends each alert as an event of the Events API v2."""

    def __init__(self, routing_key: str, *, events_url: str = "") -> None:
        """Connect to nothing yet.

        Args:
            routing_key: of the service's integration.
            events_url: another address than PagerDuty's own, as of its service regions. The library
                keeps it for the whole process.

        Raises:
            PermanentError: the extra is not installed.
        """
        try:
            import pypd
            from dagster_pagerduty import PagerDutyService
        except ImportError as error:
            raise missing_extra("PagerDuty", "pagerduty") from error
        if events_url:
            pypd.EventV2.base_url = events_url
        self._service: Any = PagerDutyService(routing_key=routing_key)

    def notify(self, alert: Alert) -> None:
        """Trigger or resolve.

        Raises:
            ReceiverUnavailableError: PagerDuty was not reached or asks to wait.
            PermanentError: it refuses the event or the key.
        """
        import pypd.errors
        import requests

        summary = f"{alert.subject}: {alert.text}"
        try:
            self._service.EventV2_create(
                summary=summary[:_SUMMARY_MAX_CHARS],
                source=dict(alert.facts).get("region") or "stateroom",
                severity=_SEVERITIES.get(alert.severity, "info"),
                event_action="trigger" if alert.severity in _SEVERITIES else "resolve",
                dedup_key=pager_key(alert),
                custom_details={**dict(alert.facts), "escalation": alert.escalation},
            )
        except pypd.errors.BadRequest as error:
            if error.code == 429:
                raise ReceiverUnavailableError("PagerDuty asks to wait (429)") from error
            raise PermanentError(
                f"PagerDuty refuses the event: {error}",
                hint="Look at the routing key in the settings.",
            ) from error
        except (pypd.errors.Error, requests.RequestException, OSError) as error:
            raise ReceiverUnavailableError(f"PagerDuty was not reached: {error}") from error


def pager_key(alert: Alert) -> str:
    """What joins the events of one alert; a long identity is cut and told apart by its hash."""
    key = alert.identity
    if len(key) <= _KEY_MAX_CHARS:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{key[: _KEY_MAX_CHARS - 65]}-{digest}"
