"""Who is told what, and when: once for each change, together what belongs together.

One look takes the incidents and what has been told so far, and says what to tell now. What is told
is remembered only once a receiver was reached, so an alert that reached nobody is raised again; a
receiver that was missed while others were reached is owed the alert, and alone gets it again.

The rules, in the order in which they are tried:

* an incident that belongs to a wider one (a node of a region that has an incident) is not told;
* `group_min` or more of one kind and region become one alert, and later ones join it;
* an alert is told again when it waits for a person, grows worse, or grows;
* while nobody has acknowledged it, it escalates, level by level, and is repeated;
* when the last of its incidents has ended, its end is told, once. One that ended before anybody
  heard of it is told all the same: a failover that worked is still a node that died.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.alert_texts import first_wish, tell_end, tell_many, tell_one
from fleet.errors import InvalidInputError
from fleet.incident_story import duration_text, name_subject
from fleet.incidents import IncidentHeader, IncidentKind, IncidentState, Severity
from fleet.ports.notifier import Alert, Delivery

RESOLVED = "resolved"

RETRY_AFTER_S = 15.0
"""A receiver that did not answer is tried again after this: a restart of it takes about as long."""

_FORGET_AFTER_S = 86400.0
"""Longer than any `ended_for_s` that makes sense."""


@dataclass(frozen=True, slots=True)
class NotificationPolicy:
    """How patient the paging is.

    Raises:
        InvalidInputError: a time below 0, levels that do not rise, or a group of fewer than two.
    """

    group_wait_s: float = 1.0
    """How long a new incident waits for others like it: many nodes rarely fail in one instant."""
    group_min: int = 3
    group_interval_s: float = 30.0
    """How often an alert about many is told again because it grows."""
    escalate_after_s: tuple[float, ...] = (300.0, 900.0)
    """Unacknowledged for so long since it was first told: level 1, 2, ..."""
    remind_every_s: float = 1800.0
    """How often an unacknowledged alert is repeated; a receiver that has lost it hears of it."""
    owed_for_s: float = 3600.0
    """How long a receiver that was missed is tried."""
    ended_for_s: float = 600.0
    """How long after its end an incident is told that nobody has heard of."""

    def __post_init__(self) -> None:
        """Refuse what would page for ever, or never."""
        levels = self.escalate_after_s
        if list(levels) != sorted(set(levels)) or any(level <= 0 for level in levels):
            raise InvalidInputError("escalate_after_s", levels, "rising times above 0")
        for name in ("remind_every_s", "owed_for_s", "ended_for_s"):
            if getattr(self, name) <= 0:
                raise InvalidInputError(name, getattr(self, name), "seconds above 0")
        for name in ("group_wait_s", "group_interval_s"):
            if getattr(self, name) < 0:
                raise InvalidInputError(name, getattr(self, name), "0 seconds or more")
        if self.ended_for_s > _FORGET_AFTER_S / 2:
            raise InvalidInputError("ended_for_s", self.ended_for_s, "at most half a day")
        if self.group_min < 2:
            raise InvalidInputError("group_min", self.group_min, "2 or more")


class ToldAlert(NamedTuple):
    """An alert that somebody has been told, and whose end not everybody has heard."""

    alert: Alert
    """As it was told last."""
    members: tuple[str, ...]
    """Ids of all its incidents, also of those that have ended, sorted."""
    first_at: datetime
    """Escalation counts from here."""
    waits_for: str = ""
    """What it was said to wait for."""
    owed: tuple[str, ...] = ()
    """Receivers that were missed."""
    tried_at: datetime | None = None
    """When they were tried last."""
    group: tuple[str, str] | None = None
    """Kind and region, when it is about many."""


@dataclass(frozen=True, slots=True)
class NotificationMemory:
    """What is remembered between two looks; `notification_json` writes it."""

    told: Mapping[str, ToldAlert] = field(default_factory=dict)
    """By the alert's key."""
    failed: Mapping[str, datetime] = field(default_factory=dict)
    """Alerts that reached nobody: key -> when they were tried last."""
    done: Mapping[str, datetime] = field(default_factory=dict)
    """Incidents whose end was told lately: id -> when."""


class Notification(NamedTuple):
    """Something to tell now."""

    alert: Alert
    told: ToldAlert | None
    """What to remember once somebody was reached; None: forget it."""
    only: tuple[str, ...] = ()
    """Receivers that are owed it; empty for all."""


def plan_notifications(
    incidents: Iterable[IncidentHeader],
    memory: NotificationMemory,
    policy: NotificationPolicy,
    now: datetime,
) -> list[Notification]:
    """What to tell at `now`.

    Args:
        incidents: every one that has not ended (one that is missing is taken for ended), and those
            that ended within `ended_for_s`.
        memory: what has been told.
        policy: how patient.
        now: the caller's clock, by which `memory` was written, too.

    Returns:
        In order of keys; empty when nobody has to hear anything. Pass each on and hand the outcome
        to `note_delivery`.
    """
    known = {header.incident_id: header for header in incidents}
    joining = _untold(known.values(), memory, policy, now)
    planned = []
    for key, told in memory.told.items():
        if told.alert.severity == RESOLVED:
            planned.append(_settle(told, policy, now))
            continue
        fresh = joining.pop(told.group, []) if told.group else []
        planned.append(_go_on(key, told, fresh, known, policy, now))
    for bucket, fresh in joining.items():
        if len(fresh) >= policy.group_min:
            planned.append(_begin_group(bucket, fresh, now))
        else:
            planned += [_begin(header, now) for header in fresh]
    due = [one for one in planned if one is not None and not _failed_lately(one, memory, now)]
    return sorted(due, key=lambda one: one.alert.identity)


def note_delivery(
    memory: NotificationMemory, notification: Notification, delivery: Delivery, now: datetime
) -> NotificationMemory:
    """What is remembered once a notification was passed on.

    Args:
        memory: before.
        notification: as planned.
        delivery: who was reached. When nobody was, the same is planned again a little later.
        now: as given to `plan_notifications`.
    """
    key = notification.alert.identity
    told = {key: one for key, one in memory.told.items() if not _is_over(one, now)}
    failed, done = _lately(memory.failed, now), _lately(memory.done, now)
    missed = tuple(one.name for one in delivery.failed if one.again)
    if not delivery.reached and not notification.only:
        failed[key] = now
        return NotificationMemory(told, failed, done)
    failed.pop(key, None)
    if notification.told is None:
        ended = told.pop(key, None)
        done.update(dict.fromkeys(ended.members if ended else (), now))
        if missed and ended:
            told[key] = ended._replace(alert=notification.alert, owed=missed, tried_at=now)
    else:
        told[key] = notification.told._replace(owed=missed, tried_at=now if missed else None)
    return NotificationMemory(told, failed, done)


def _untold(
    incidents: Iterable[IncidentHeader],
    memory: NotificationMemory,
    policy: NotificationPolicy,
    now: datetime,
) -> dict[tuple[str, str] | None, list[IncidentHeader]]:
    """Incidents that somebody must hear of, by kind and region, each bucket in order of opening."""
    told = {member for one in memory.told.values() for member in one.members} | memory.done.keys()
    headers = sorted(incidents, key=lambda one: (one.opened_at, one.incident_id))
    wider: dict[str, list[IncidentHeader]] = {}
    for header in headers:
        if header.kind == IncidentKind.REGION:
            wider.setdefault(header.region, []).append(header)
    buckets: dict[tuple[str, str] | None, list[IncidentHeader]] = {}
    for header in headers:
        if header.incident_id in told or not _is_due(header, policy, now):
            continue
        regions = wider.get(header.region, []) if header.kind != IncidentKind.REGION else []
        if not any(_belongs(header, region) for region in regions):
            buckets.setdefault((header.kind.value, header.region), []).append(header)
    return buckets


def _is_due(header: IncidentHeader, policy: NotificationPolicy, now: datetime) -> bool:
    """A new one waits for others like it; one that ended long ago is history."""
    if header.ended_at is not None:
        return now - header.ended_at < timedelta(seconds=policy.ended_for_s)
    return not now - timedelta(seconds=policy.group_wait_s) < header.opened_at <= now


def _belongs(header: IncidentHeader, region: IncidentHeader) -> bool:
    """Whether whoever hears of the region's incident need not hear of this one."""
    if region.ended_at is None:
        return True
    return header.ended_at is not None and header.opened_at <= region.ended_at


def _is_over(told: ToldAlert, now: datetime) -> bool:
    """An end that somebody was owed for a day is forgotten."""
    kept = timedelta(seconds=_FORGET_AFTER_S)
    return told.alert.severity == RESOLVED and now - told.alert.raised_at >= kept


def _lately(moments: Mapping[str, datetime], now: datetime) -> dict[str, datetime]:
    """What is young enough to be remembered."""
    return {key: at for key, at in moments.items() if now - at < timedelta(seconds=_FORGET_AFTER_S)}


def _failed_lately(planned: Notification, memory: NotificationMemory, now: datetime) -> bool:
    at = memory.failed.get(planned.alert.identity)
    return at is not None and at <= now < at + timedelta(seconds=RETRY_AFTER_S)


def _begin(header: IncidentHeader, now: datetime) -> Notification:
    """The first word of one incident."""
    facts = (
        ("incident", header.incident_id),
        ("kind", header.kind.value),
        ("region", header.region),
    )
    subject = name_subject(header)
    alert = Alert(
        subject, header.severity.value, tell_one(header), now, header.incident_id, 0, facts
    )
    told = ToldAlert(alert, (header.incident_id,), now, header.waits_for)
    return Notification(alert, told)


def _begin_group(
    bucket: tuple[str, str] | None, fresh: Sequence[IncidentHeader], now: datetime
) -> Notification:
    """The first word of many that belong together."""
    assert bucket is not None, "only buckets make groups"
    kind, region = bucket
    first = fresh[0].incident_id
    facts = (("incident", first), ("kind", kind), ("region", region))
    place = f" in {region}" if region else ""
    subject = f"Several {kind} incidents{place}"
    alert = Alert(subject, _worst(fresh), tell_many(fresh), now, f"group-{first}", 0, facts)
    members = tuple(sorted(one.incident_id for one in fresh))
    return Notification(alert, ToldAlert(alert, members, now, first_wish(fresh), group=bucket))


def _go_on(
    key: str,
    told: ToldAlert,
    fresh: Sequence[IncidentHeader],
    known: Mapping[str, IncidentHeader],
    policy: NotificationPolicy,
    now: datetime,
) -> Notification | None:
    """The next word of an alert that somebody has been told; None when there is none."""
    silent_s = (now - told.alert.raised_at).total_seconds()
    if 0 <= silent_s < policy.group_interval_s:
        fresh = []
    members = [known[one] for one in told.members if one in known]
    alive = [one for one in members if one.state != IncidentState.ENDED] + list(fresh)
    if not alive:
        alert = told.alert._replace(
            severity=RESOLVED, text=tell_end(members, len(told.members)), raised_at=now, key=key
        )
        return Notification(alert, None)
    acknowledged = any(one.acknowledged_at is not None for one in alive)
    level = told.alert.escalation
    if not acknowledged:
        waited_s = (now - told.first_at).total_seconds()
        level = max(level, sum(waited_s >= limit for limit in policy.escalate_after_s))
    wish, worst = first_wish(alive), _worst(alive)
    text = tell_many(alive) if told.group else tell_one(alive[0])
    if level and not acknowledged:
        waited = duration_text((now - told.first_at).total_seconds())
        text += f" Nobody has acknowledged it for {waited}."
    alert = told.alert._replace(severity=worst, text=text, raised_at=now, escalation=level)
    after = ToldAlert(
        alert,
        tuple(sorted({*told.members, *(one.incident_id for one in fresh)})),
        told.first_at,
        wish,
        group=told.group,
    )
    if _is_news(told, alert, wish, fresh):
        return Notification(alert, after)
    if not acknowledged and silent_s >= policy.remind_every_s:
        return Notification(alert, after)
    return _settle(told, policy, now)


def _is_news(told: ToldAlert, alert: Alert, wish: str, fresh: Sequence[IncidentHeader]) -> bool:
    """Whether what would be told differs from what was, in a way that matters to a person."""
    worse = (told.alert.severity, alert.severity) == (Severity.WARN.value, Severity.ERROR.value)
    higher = alert.escalation > told.alert.escalation
    return bool(fresh) or worse or higher or (bool(wish) and wish != told.waits_for)


def _settle(told: ToldAlert, policy: NotificationPolicy, now: datetime) -> Notification | None:
    """The same word again for those who missed it, until they have it or it is too old."""
    if not told.owed or told.tried_at is None:
        return None
    if now - told.alert.raised_at >= timedelta(seconds=policy.owed_for_s):
        return None
    if told.tried_at <= now < told.tried_at + timedelta(seconds=RETRY_AFTER_S):
        return None
    after = None if told.alert.severity == RESOLVED else told
    return Notification(told.alert, after, told.owed)


def _worst(headers: Iterable[IncidentHeader]) -> str:
    found = {header.severity for header in headers}
    return (Severity.ERROR if Severity.ERROR in found else Severity.WARN).value
