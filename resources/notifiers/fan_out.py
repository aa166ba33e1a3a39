"""Passes each alert to all receivers at once, and says which were reached.

A receiver that hangs costs the deadline and no more: its thread is left behind, and what it may
still deliver is the alert that it was given. One receiver that fails stops no other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from threading import Thread
from typing import NamedTuple

from fleet.errors import (
    InvalidInputError,
    PermanentError,
    ReceiverUnavailableError,
    StateroomError,
    TransientError,
)
from fleet.ports.notifier import Alert, Delivery, FailedReceiver, Notifier

LOGGER = "stateroom.alerts"
DEADLINE_S = 12.0
"""Longer than a connect and an answer that each take the longest that is allowed."""


class Receiver(NamedTuple):
    """One who is told."""

    notifier: Notifier
    from_level: int = 0
    """Told only of alerts that nobody has answered so often: 0 for all of them."""
    wakes: bool = True
    """A person hears of it. A log does not: an alert that only a log has taken reached nobody,
    unless there is nobody else."""


class FanOutNotifier:
    """Several receivers as one."""

    def __init__(
        self, receivers: Mapping[str, Receiver], *, deadline_s: float = DEADLINE_S
    ) -> None:
        """Tell these, by name.

        Raises:
            InvalidInputError: nobody would be told of a new alert.
        """
        if not any(receiver.from_level <= 0 for receiver in receivers.values()):
            raise InvalidInputError(
                "notifiers", sorted(receivers), "at least one receiver that is told from level 0"
            )
        self._receivers = dict(receivers)
        self._deadline_s = deadline_s

    def deliver(self, alert: Alert, only: Collection[str] = ()) -> Delivery:
        """Try all receivers of this alert's level, or those named in `only`.

        Returns:
            Who was reached (of those who wake somebody, where there is one) and who was not, each
            in order of names. A failure is logged, too.
        """
        tried = {
            name: receiver.notifier
            for name, receiver in sorted(self._receivers.items())
            if receiver.from_level <= alert.escalation and (not only or name in only)
        }
        failures = self._try(tried, alert)
        for failed in failures:
            logging.getLogger(LOGGER).warning(
                "%s did not reach %s: %s", alert.subject, failed.name, failed.reason
            )
        missed = {failed.name for failed in failures}
        waking = [name for name in tried if self._receivers[name].wakes] or list(tried)
        return Delivery(tuple(name for name in waking if name not in missed), tuple(failures))

    def notify(self, alert: Alert) -> None:
        """Try all; reaching one of them is success.

        Raises:
            ReceiverUnavailableError: nobody was reached, and trying again may help.
            PermanentError: everybody refuses.
        """
        delivery = self.deliver(alert)
        if delivery.reached or not delivery.failed:
            return
        reasons = "; ".join(f"{failed.name}: {failed.reason}" for failed in delivery.failed)
        text = f"{alert.subject}: nobody was reached ({reasons})"
        if any(failed.again for failed in delivery.failed):
            raise ReceiverUnavailableError(text)
        raise PermanentError(text, hint="Look at the notifiers in the settings.")

    def _try(self, tried: Mapping[str, Notifier], alert: Alert) -> Sequence[FailedReceiver]:
        ends: dict[str, StateroomError | None] = {}
        crashes: dict[str, Exception] = {}

        def tell(name: str, notifier: Notifier) -> None:
            try:
                notifier.notify(alert)
            except StateroomError as error:
                ends[name] = error
            except Exception as error:  # noqa: BLE001 - a defect in one receiver stops no other
                crashes[name] = error
            else:
                ends[name] = None

        threads = [
            Thread(target=tell, args=item, name=f"notify-{item[0]}", daemon=True)
            for item in tried.items()
        ]
        deadline = time.monotonic() + self._deadline_s
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [
            failed
            for name in tried
            if (failed := self._failure(name, ends, crashes.get(name))) is not None
        ]

    def _failure(
        self, name: str, ends: Mapping[str, StateroomError | None], crash: Exception | None
    ) -> FailedReceiver | None:
        if crash is not None:
            return FailedReceiver(name, f"{type(crash).__name__}: {crash}", again=False)
        if name not in ends:
            return FailedReceiver(name, f"no end within {self._deadline_s:g} s", again=True)
        error = ends[name]
        if error is None:
            return None
        return FailedReceiver(name, str(error), again=isinstance(error, TransientError))
