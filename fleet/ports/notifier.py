"""Whom an alert reaches: today a log, tomorrow whatever somebody carries in a pocket."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol


class Alert(NamedTuple):
    """Something that a person must know now."""

    subject: str
    """What it is about: `recovery point of host-watch in eu-central-1`."""
    severity: str
    """`error`: an objective is missed. `warn`: it will be. `resolved`: it holds again."""
    text: str
    """What is the matter, with figures."""
    raised_at: datetime


class Notifier(Protocol):
    """Passes alerts on. Called once for each change, never for each look."""

    def notify(self, alert: Alert) -> None:
        """Pass one alert on.

        Raises:
            TransientError: nobody was reached; the next look tries again.
        """
        ...
