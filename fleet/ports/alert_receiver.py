"""Who takes the alerts of rules: an Alertmanager, or the embedded grouping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fleet.alerts.sending import SentAlert


class AlertReceiver(Protocol):
    """Takes alerts that fire or have ended; called at each tick, also with none."""

    def take(self, alerts: Sequence[SentAlert], now_ms: int) -> str:
        """Take alerts; durable with the receiver when this returns.

        Args:
            alerts: those that are due; one that was taken before replaces itself.
            now_ms: the present.

        Returns:
            What was done, in words.

        Raises:
            TransientError: nothing was taken; the same alerts come again with the next tick.
            PermanentError: they are refused, and will be until somebody changes the settings.
        """
        ...
