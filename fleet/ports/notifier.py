"""Whom an alert reaches: a log, a web hook, whatever somebody carries in a pocket."""

from __future__ import annotations

from collections.abc import Collection
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
    key: str = ""
    """What receivers recognise it by, from its first word to its end; '' stands for the subject."""
    escalation: int = 0
    """How often nobody has answered: 0 for the first ones to be told, 1 for the next, ..."""
    facts: tuple[tuple[str, str], ...] = ()
    """Names and values by which receivers sort: incident, kind, region."""

    @property
    def identity(self) -> str:
        """The key, or the subject where there is none."""
        return self.key or self.subject


class Notifier(Protocol):
    """Passes alerts on. Called once for each change, never for each look."""

    def notify(self, alert: Alert) -> None:
        """Pass one alert on.

        Raises:
            TransientError: nobody was reached; the next look tries again.
            PermanentError: it is refused, and will be again until somebody changes the settings.
        """
        ...


class FailedReceiver(NamedTuple):
    """One that was not reached."""

    name: str
    reason: str
    again: bool
    """Trying again may help."""


class Delivery(NamedTuple):
    """Who was reached by an alert, and who was not."""

    reached: tuple[str, ...]
    failed: tuple[FailedReceiver, ...] = ()


class Deliverer(Protocol):
    """Passes an alert on to several receivers and says which were reached."""

    def deliver(self, alert: Alert, only: Collection[str] = ()) -> Delivery:
        """Try all receivers, or those named in `only`; never raises for one that failed."""
        ...
