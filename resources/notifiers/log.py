"""Alerts as lines of a log: the notifier of a fleet that has no other."""

from __future__ import annotations

import logging

from fleet.ports.notifier import Alert

LOGGER = "stateroom.alerts"
_LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "resolved": logging.INFO}


class LogNotifier:
    """Writes each alert to the logger `stateroom.alerts`, at the level of its severity."""

    def notify(self, alert: Alert) -> None:
        """Log one line."""
        level = _LEVELS.get(alert.severity, logging.ERROR)
        logging.getLogger(LOGGER).log(
            level, "%s: %s (%s)", alert.subject, alert.text, alert.severity
        )
