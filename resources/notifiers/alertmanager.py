"""Alerts for a Prometheus Alertmanager, over its API v2.

Alertmanager knows an alert by its labels. Severity and level are labels, because people route by
them; so each post says of every severity and level that this alert may have had whether it fires
now. That makes a post the whole truth: the notifier remembers nothing, and a post that is repeated
changes nothing.

An Alertmanager keeps alerts in memory only. One that was restarted hears of an alert again when it
is repeated (`NotificationPolicy.remind_every_s`).
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from fleet.ports.notifier import Alert
from resources.notifiers.posting import TIMEOUT_S, parse_address, post_json

LIFETIME = timedelta(days=30)
"""An alert whose end nobody has posted ends by itself after this."""

_SEVERITIES = ("error", "warn")
_PATH = "/api/v2/alerts"


class AlertmanagerNotifier:
    """Posts each alert to `<url>/api/v2/alerts`."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Connect to nothing yet.

        Args:
            url: where Alertmanager serves, with its route prefix when it has one.
            timeout_s: for connecting and for each wait on the answer.

        Raises:
            InvalidInputError: the URL is none.
        """
        self._address = parse_address("alertmanager.url", url, _PATH)
        self._timeout_s = timeout_s

    def notify(self, alert: Alert) -> None:
        """Post what fires and what does not, in one request."""
        body = json.dumps(posted_alerts(alert)).encode()
        post_json("Alertmanager", self._address, body, {}, self._timeout_s)


def posted_alerts(alert: Alert) -> list[dict[str, Any]]:
    """Every severity and level of an alert, firing or ended.

    What fires begins at `raised_at` (Alertmanager keeps the earliest beginning that it knows) and
    ends after LIFETIME; what does not fire has ended at `raised_at`.
    """
    posted = []
    for severity in _SEVERITIES:
        for level in range(alert.escalation + 1):
            fires = severity == alert.severity
            ends_at = alert.raised_at + LIFETIME if fires else alert.raised_at
            posted.append(
                {
                    "labels": _labels(alert, severity, level),
                    "annotations": {"summary": alert.subject, "description": alert.text},
                    "startsAt": _moment(alert.raised_at),
                    "endsAt": _moment(ends_at),
                }
            )
    return posted


def _labels(alert: Alert, severity: str, level: int) -> dict[str, str]:
    facts = {name: value for name, value in alert.facts if value}
    return {
        **facts,
        "alertname": "StateroomIncident" if "incident" in facts else "StateroomAlert",
        "key": alert.identity,
        "severity": severity,
        "escalation": str(level),
    }


def _moment(at: datetime) -> str:
    return at.isoformat()
