"""Tells people of incidents: each pass looks at what is open, and says what is news."""

from datetime import datetime

import dagster as dg

from fleet.incidents import IncidentHeader
from fleet.notification_json import decode_memory, encode_memory
from fleet.notifications import NotificationPolicy, note_delivery, plan_notifications
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.notifier import Deliverer

INTERVAL_S = 4
"""Below 5, so that every pass of the sensor daemon (5 s) starts a tick."""

LOOKED_AT_MAX = 1000
"""Newest incidents that are looked at; open ones are looked at all the same."""


def build_notification_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor that tells people of incidents.

    Args:
        running: whether it runs unless somebody stops it in the UI.
    """

    @dg.sensor(
        name="notification_sensor",
        minimum_interval_seconds=INTERVAL_S,
        default_status=(
            dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
        ),
        description="Tells people of incidents: once for each change, louder while nobody has it.",
    )
    def notification_sensor(
        context: dg.SensorEvaluationContext,
        control_store: dg.ResourceParam[ControlStore],
        clock: dg.ResourceParam[Clock],
        notifier: dg.ResourceParam[Deliverer],
    ) -> dg.SkipReason:
        told, memory = tell_incidents(
            control_store, notifier, context.cursor, clock.now(), NotificationPolicy()
        )
        context.update_cursor(memory)
        return dg.SkipReason(told)

    return notification_sensor


def tell_incidents(
    store: ControlStore,
    notifier: Deliverer,
    cursor: str | None,
    now: datetime,
    policy: NotificationPolicy,
) -> tuple[str, str]:
    """Tell what is news, and remember who has heard it.

    Args:
        store: holds the incidents.
        notifier: passes alerts on.
        cursor: what was remembered by the last look; None at first.
        now: by the same clock as in the last look.
        policy: how patient.

    Returns:
        What was told, in words, and what to remember.
    """
    memory = decode_memory(cursor)
    told = []
    for planned in plan_notifications(_incidents(store), memory, policy, now):
        delivery = notifier.deliver(planned.alert, planned.only)
        memory = note_delivery(memory, planned, delivery, now)
        who = ", ".join(delivery.reached) or "nobody"
        told.append(f"{planned.alert.subject} ({planned.alert.severity}) told to {who}")
    return "; ".join(told) or "nothing is news", encode_memory(memory)


def _incidents(store: ControlStore) -> list[IncidentHeader]:
    """All that are open, and the newest ones, which may have ended lately."""
    found = store.incidents(limit=LOOKED_AT_MAX)
    known = {one.incident_id for one in found}
    still_open = store.incidents(open_only=True, limit=LOOKED_AT_MAX)
    return [*found, *(one for one in still_open if one.incident_id not in known)]
