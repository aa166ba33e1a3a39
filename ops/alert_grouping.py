"""Tells people of alerts where there is no Alertmanager: groups, silences, repeats, retries.

What is held and what was told is one document of the alert store. It is committed before anybody
is told (so an alert that was taken is not lost) and again afterwards (so nobody is told twice); a
crash between the two tells the same once more.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from fleet.alerts.grouping import (
    GroupingPolicy,
    GroupingState,
    note_message,
    plan_messages,
    take_alerts,
)
from fleet.alerts.messages import group_message
from fleet.alerts.sending import SentAlert
from fleet.alerts.silences import Silence, decode_silences, muted
from fleet.alerts.state_json import decode_groups, encode_groups
from fleet.errors import CorruptObjectError, InvalidInputError
from fleet.metrics.labels import Labels
from fleet.ports.alert_store import GROUPS, SILENCES, AlertStore
from fleet.ports.notifier import Deliverer


class GroupedReceiver:
    """Takes alerts, and passes each group on as one message to all receivers of notifications."""

    def __init__(
        self, store: AlertStore, notifier: Deliverer, policy: GroupingPolicy | None = None
    ) -> None:
        """Read nothing yet.

        Args:
            store: keeps groups and silences.
            notifier: reaches people.
            policy: how patient.
        """
        self._store = store
        self._notifier = notifier
        self._policy = policy or GroupingPolicy()
        self._state: GroupingState | None = None
        self._saved = ""

    def take(self, alerts: Sequence[SentAlert], now_ms: int) -> str:
        """See the port; committed with the document of groups.

        Raises:
            StoreUnavailableError: groups or silences cannot be read or written.
            CorruptObjectError: the silences are damaged: nobody is told before a person has looked,
                rather than everybody of everything.
        """
        told: list[str] = []
        state = take_alerts(self._held(told), alerts, now_ms, self._policy)
        state, messages = plan_messages(state, self._mutes(now_ms), now_ms, self._policy)
        self._save(state)
        for message in messages:
            delivery = self._notifier.deliver(group_message(message, now_ms), message.only)
            state = note_message(state, message, delivery, now_ms, self._policy)
            self._save(state)
            names = ", ".join(delivery.reached) or "nobody"
            told.append(f"{group_message(message, now_ms).subject} told to {names}")
        return "; ".join(told) or "nothing is news"

    def _held(self, told: list[str]) -> GroupingState:
        """What is held; a document that cannot be read is set aside, and said so."""
        if self._state is None:
            try:
                self._state = decode_groups(self._store.read(GROUPS))
            except (CorruptObjectError, InvalidInputError) as error:
                told.append(f"{error}; set aside as {self._store.set_aside(GROUPS)}")
                self._state = GroupingState()
        return self._state

    def _mutes(self, now_ms: int) -> Callable[[Labels], bool]:
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        silences: list[Silence] = [
            one for one in decode_silences(self._store.read(SILENCES)) if one.is_active(now)
        ]
        return lambda labels: muted(silences, labels, now) is not None

    def _save(self, state: GroupingState) -> None:
        text = encode_groups(state)
        if text != self._saved:
            self._store.write(GROUPS, text)
        self._state, self._saved = state, text
