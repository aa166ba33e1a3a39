"""Gives alerts back, after a restart, the time that they had already waited for.

As Prometheus does with the series ALERTS_FOR_STATE: what a rule knew at its last evaluation is
compared with what it finds now; the time away does not count as waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fleet.alerts.rules import AlertingRule
from fleet.alerts.states import RuleState
from fleet.errors import InvalidInputError
from fleet.metrics.labels import Labels

RESTORE_AT_EVALUATION = 2
"""The evaluation after a start after which `for` is restored: recording rules have run by then.
Source: Prometheus, rules/group.go (`run`)."""


@dataclass(frozen=True, slots=True)
class RestorePolicy:
    """How long an outage may have been, and how soon an alert may fire after it.

    Source: Prometheus, flags `rules.alert.for-outage-tolerance` and `for-grace-period`.
    """

    outage_tolerance_ms: int = 3_600_000
    """What was known longer ago than this is forgotten."""
    grace_ms: int = 600_000
    """Least time between a start and the firing of an alert that had waited before; rules whose
    `for` is shorter begin anew."""

    def __post_init__(self) -> None:
        """Refuse times below 0."""
        for name in ("outage_tolerance_ms", "grace_ms"):
            if getattr(self, name) < 0:
                raise InvalidInputError(name, getattr(self, name), "0 or more")


class WaitedAlert(NamedTuple):
    """What ALERTS_FOR_STATE said last of an alert."""

    seen_at_ms: int
    """The last evaluation in which it was pending or firing."""
    active_at_ms: int


def restore_waiting(
    rule: AlertingRule,
    state: RuleState,
    waited: Mapping[Labels, WaitedAlert],
    now_ms: int,
    policy: RestorePolicy,
) -> RuleState:
    """Move `active_at_ms` of alerts that were there before the outage.

    Args:
        rule: theirs.
        state: after the second evaluation since the start.
        waited: by labels of the alert, what was known before the start.
        now_ms: the present.
        policy: how long is too long.

    Returns:
        The alerts; one that has waited long enough fires at the next evaluation.
    """
    if rule.for_ms < policy.grace_ms or not waited:
        return state
    alerts = dict(state.alerts)
    for labels, alert in state.alerts.items():
        known = waited.get(labels)
        if known is None or known.seen_at_ms < now_ms - policy.outage_tolerance_ms:
            continue
        moved_ms = _restored_ms(rule.for_ms, known, now_ms, policy.grace_ms)
        alerts[labels] = alert._replace(active_at_ms=moved_ms)
    return RuleState(alerts, state.names)


def _restored_ms(for_ms: int, known: WaitedAlert, now_ms: int, grace_ms: int) -> int:
    """Since when the alert counts as active.

    Source: Prometheus, rules/group.go (`RestoreForState`), which keeps whole seconds.
    """
    active_at_ms = known.active_at_ms // 1000 * 1000
    seen_at_ms = known.seen_at_ms // 1000 * 1000
    left_ms = for_ms - (seen_at_ms - active_at_ms)
    if left_ms <= 0:
        return active_at_ms
    if left_ms < grace_ms:
        return now_ms + grace_ms - for_ms
    return active_at_ms + now_ms - seen_at_ms
