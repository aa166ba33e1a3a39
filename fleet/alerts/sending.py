"""Which alerts are passed on now, and until when each counts as firing if nothing follows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from fleet.alerts.states import ActiveAlert, AlertProgram, AlertState, RuleState
from fleet.errors import InvalidInputError
from fleet.metrics.labels import Labels

_LIVES = 4
"""Resend delays that a firing alert lives unless it is sent again: two may fail.
Source: Prometheus, rules/alerting.go (`sendAlerts`)."""


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """How often an alert that goes on is passed on again."""

    resend_delay_ms: int = 60_000
    """Source: Prometheus, flag `rules.alert.resend-delay`."""

    def __post_init__(self) -> None:
        """Refuse what would send without end."""
        if self.resend_delay_ms <= 0:
            raise InvalidInputError("resend_delay_ms", self.resend_delay_ms, "above 0")


class SentAlert(NamedTuple):
    """An alert as receivers get it."""

    labels: Labels
    annotations: Labels
    starts_at_ms: int
    """When it began to fire."""
    ends_at_ms: int
    """When it ended, or will have ended if nobody sends it again."""
    expr: str = ""
    """Of its rule."""

    def is_resolved(self, now_ms: int) -> bool:
        """Whether its end has come."""
        return self.ends_at_ms <= now_ms


def due_alerts(state: RuleState, at_ms: int, policy: SendPolicy) -> list[ActiveAlert]:
    """Alerts of a rule that are passed on after an evaluation at `at_ms`.

    Firing ones at once and then after each resend delay; those that have ended, at once and again
    while they are kept. Pending ones never.
    """
    return [one for one in state.alerts.values() if _is_due(one, at_ms, policy.resend_delay_ms)]


def _is_due(alert: ActiveAlert, at_ms: int, resend_delay_ms: int) -> bool:
    if alert.state is AlertState.PENDING:
        return False
    if alert.sent_at_ms is None:
        return True
    if alert.resolved_at_ms is not None and alert.resolved_at_ms > alert.sent_at_ms:
        return True
    return alert.sent_at_ms + resend_delay_ms < at_ms


def outgoing(
    program: AlertProgram,
    due: Iterable[ActiveAlert],
    at_ms: int,
    interval_ms: int,
    policy: SendPolicy,
) -> list[SentAlert]:
    """The due alerts with their words and their ends, external labels put on.

    Args:
        program: their rule.
        due: of `due_alerts`.
        at_ms: the evaluation.
        interval_ms: of the group.
        policy: sets how long a firing alert lives.
    """
    valid_until_ms = at_ms + _LIVES * max(interval_ms, policy.resend_delay_ms)
    external = program.outside.labels
    sent = []
    for alert in due:
        ends_at_ms = valid_until_ms if alert.resolved_at_ms is None else alert.resolved_at_ms
        labels = alert.labels
        if external:
            labels = tuple(sorted({**external, **dict(labels)}.items()))
        assert alert.fired_at_ms is not None, "only what has fired is passed on"
        told = program.tell(alert)
        sent.append(SentAlert(labels, told, alert.fired_at_ms, ends_at_ms, program.rule.expr))
    return sent


def mark_sent(state: RuleState, sent: Iterable[ActiveAlert], at_ms: int) -> RuleState:
    """The alerts of a rule once `sent` of them have reached somebody."""
    alerts = dict(state.alerts)
    for alert in sent:
        alerts[alert.labels] = alert._replace(sent_at_ms=at_ms)
    return RuleState(alerts, state.names)
