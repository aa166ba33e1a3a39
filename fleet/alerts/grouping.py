"""Alerts that belong together become one message: when it is told, and when it is told again.

The embedded stand-in for an Alertmanager, with its meaning of `group_by`, `group_wait`,
`group_interval` and `repeat_interval`. Pure: what is held and what was told is an argument.

Source: Alertmanager, dispatch/dispatch.go and notify/notify.go (`needsUpdate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fleet.alerts.sending import SentAlert
from fleet.errors import InvalidInputError
from fleet.metrics.labels import Labels
from fleet.ports.notifier import Delivery

ALL_LABELS = "..."
"""In `group_by`: every alert is a group of its own."""
RETRY_AFTER_MS = 15_000
"""A receiver that did not answer is tried again after this."""
OWED_FOR_MS = 3_600_000
"""How long a receiver that was missed is tried while others were reached."""


@dataclass(frozen=True, slots=True)
class GroupingPolicy:
    """How patient the telling is. Source of the defaults: Alertmanager's `route`.

    Raises:
        InvalidInputError: a time that would tell without end, or never.
    """

    group_by: tuple[str, ...] = ("alertname",)
    group_wait_ms: int = 30_000
    """How long the first alert of a group waits for others."""
    group_interval_ms: int = 300_000
    """How often a group that has changed is told again."""
    repeat_interval_ms: int = 4 * 3_600_000
    """How often one that has not changed is."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.group_wait_ms < 0:
            raise InvalidInputError("group_wait_ms", self.group_wait_ms, "0 or more")
        for name in ("group_interval_ms", "repeat_interval_ms"):
            if getattr(self, name) <= 0:
                raise InvalidInputError(name, getattr(self, name), "above 0")

    def key(self, labels: Labels) -> Labels:
        """The labels by which an alert is grouped."""
        if ALL_LABELS in self.group_by:
            return labels
        return tuple(pair for pair in labels if pair[0] in self.group_by)


class AlertGroup(NamedTuple):
    """Alerts that belong together, and what was told of them."""

    alerts: Mapping[Labels, SentAlert]
    """By their labels: firing ones, and those whose end was not told yet."""
    flush_at_ms: int
    """When it is looked at next."""
    told_firing: frozenset[Labels] = frozenset()
    """What fired when it was told last."""
    told_resolved: frozenset[Labels] = frozenset()
    told_at_ms: int | None = None
    """When that was; None: nobody has heard of it."""
    owed: tuple[str, ...] = ()
    """Receivers that were missed then."""
    flushed: bool = False
    """Whether it was looked at before: its first wait is over."""


@dataclass(frozen=True, slots=True)
class GroupingState:
    """All groups, by their labels."""

    groups: Mapping[Labels, AlertGroup] = field(default_factory=dict)


class GroupMessage(NamedTuple):
    """What a group has to say now."""

    key: Labels
    firing: tuple[SentAlert, ...]
    resolved: tuple[SentAlert, ...]
    only: tuple[str, ...] = ()
    """Receivers that are owed it; empty for all."""

    @property
    def is_over(self) -> bool:
        """Whether nothing of the group fires any more."""
        return not self.firing


Mutes = Callable[[Labels], bool]


def take_alerts(
    state: GroupingState, alerts: Iterable[SentAlert], now_ms: int, policy: GroupingPolicy
) -> GroupingState:
    """Put alerts into their groups; the end of an alert that nobody holds is dropped."""
    groups = dict(state.groups)
    fresh: dict[Labels, dict[Labels, SentAlert]] = {}
    for alert in alerts:
        fresh.setdefault(policy.key(alert.labels), {})[alert.labels] = alert
    for key, found in fresh.items():
        group = groups.get(key)
        held = group.alerts if group else {}
        wanted = {
            labels: _merged(held.get(labels), alert)
            for labels, alert in found.items()
            if labels in held or not alert.is_resolved(now_ms)
        }
        if not wanted:
            continue
        if group is None:
            group = AlertGroup(wanted, now_ms + policy.group_wait_ms)
        else:
            group = group._replace(alerts={**held, **wanted})
        waited = any(one.starts_at_ms + policy.group_wait_ms < now_ms for one in wanted.values())
        if waited and not group.flushed:
            group = group._replace(flush_at_ms=now_ms)
        groups[key] = group
    return GroupingState(groups)


def _merged(old: SentAlert | None, new: SentAlert) -> SentAlert:
    """One alert told twice begins at its first beginning; its newest end counts."""
    if old is None or new.starts_at_ms > old.ends_at_ms:
        return new
    return new._replace(starts_at_ms=min(old.starts_at_ms, new.starts_at_ms))


def plan_messages(
    state: GroupingState, mutes: Mutes, now_ms: int, policy: GroupingPolicy
) -> tuple[GroupingState, list[GroupMessage]]:
    """What is to be told now.

    Args:
        state: all groups.
        mutes: whether a silence holds for an alert of these labels.
        now_ms: the present.
        policy: how patient.

    Returns:
        The groups, those without news moved on to their next look, those without alerts gone; and
        the messages. Pass each on, and hand the outcome to `note_message`.
    """
    groups: dict[Labels, AlertGroup] = {}
    messages = []
    for key, group in state.groups.items():
        if group.flush_at_ms > now_ms:
            groups[key] = group
            continue
        message = _message(key, group, mutes, now_ms, policy)
        if message is not None:
            messages.append(message)
            groups[key] = group
            continue
        after = _moved_on(group, now_ms, policy)
        if after is not None:
            groups[key] = after
    return GroupingState(groups), messages


def _message(
    key: Labels, group: AlertGroup, mutes: Mutes, now_ms: int, policy: GroupingPolicy
) -> GroupMessage | None:
    heard = [one for one in group.alerts.values() if not mutes(one.labels)]
    firing = tuple(one for one in heard if not one.is_resolved(now_ms))
    resolved = tuple(one for one in heard if one.is_resolved(now_ms))
    if not heard:
        return None
    if _is_news(group, firing, resolved, now_ms, policy):
        return GroupMessage(key, firing, resolved)
    owed = _owed(group, now_ms)
    return GroupMessage(key, firing, resolved, owed) if owed else None


def _owed(group: AlertGroup, now_ms: int) -> tuple[str, ...]:
    """Receivers that are still tried."""
    told_at_ms = now_ms if group.told_at_ms is None else group.told_at_ms
    return group.owed if now_ms - told_at_ms < OWED_FOR_MS else ()


def _is_news(
    group: AlertGroup,
    firing: tuple[SentAlert, ...],
    resolved: tuple[SentAlert, ...],
    now_ms: int,
    policy: GroupingPolicy,
) -> bool:
    """Whether somebody has to hear of the group. Source: notify.go (`needsUpdate`)."""
    if group.told_at_ms is None:
        return bool(firing)
    names = {one.labels for one in firing}
    if not names <= group.told_firing:
        return True
    if not firing:
        return bool(group.told_firing)
    if not {one.labels for one in resolved} <= group.told_resolved:
        return True
    return group.told_at_ms < now_ms - policy.repeat_interval_ms


def _moved_on(group: AlertGroup, now_ms: int, policy: GroupingPolicy) -> AlertGroup | None:
    """A group after a look without news; None when nothing is left of it."""
    left = {labels: one for labels, one in group.alerts.items() if not one.is_resolved(now_ms)}
    if not left:
        return None
    return group._replace(
        alerts=left,
        flush_at_ms=now_ms + policy.group_interval_ms,
        owed=_owed(group, now_ms),
        flushed=True,
    )


def note_message(
    state: GroupingState,
    message: GroupMessage,
    delivery: Delivery,
    now_ms: int,
    policy: GroupingPolicy,
) -> GroupingState:
    """The groups once a message was passed on.

    When nobody was reached the same is planned again after `RETRY_AFTER_MS`. Receivers that were
    missed while others were reached are owed it, and get it alone.
    """
    groups = dict(state.groups)
    group = groups[message.key]
    missed = tuple(one.name for one in delivery.failed if one.again)
    if not delivery.reached and missed:
        groups[message.key] = group._replace(flush_at_ms=now_ms + RETRY_AFTER_MS, flushed=True)
        return GroupingState(groups)
    told = {one.labels for one in message.resolved}
    left = {labels: one for labels, one in group.alerts.items() if labels not in told or missed}
    after = group._replace(
        alerts=left,
        flush_at_ms=now_ms + (RETRY_AFTER_MS if missed else policy.group_interval_ms),
        told_firing=frozenset(one.labels for one in message.firing),
        told_resolved=frozenset(told),
        told_at_ms=now_ms if not message.only else group.told_at_ms,
        owed=missed,
        flushed=True,
    )
    if left:
        groups[message.key] = after
    else:
        del groups[message.key]
    return GroupingState(groups)
