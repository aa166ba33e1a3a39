"""States of alerts, exactly as Prometheus' rules/alerting.go moves them.

::

    (nothing) --first true--> pending --`for` is over--> firing --gone--> inactive, 15 min
                 ^              |                          | ^               |
                 +-- gone ------+       keep_firing_for ---+-+   true again: pending, anew

An alert is known by its labels: those of the element, without the metric's name, and those of the
rule. Pure: an evaluation takes what was and what the query found, and gives what is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from fleet.alerts.rules import ALERT_NAME, AlertingRule
from fleet.alerts.templates import Outside, Template, parse_template
from fleet.errors import InvalidInputError, StateroomError, TooLargeError
from fleet.metrics.labels import METRIC_NAME, Labels, labels_text
from fleet.metrics.vectors import InstantVector

RESOLVED_KEPT_MS = 15 * 60_000
"""How long an alert that has ended is kept, so that its end can be told again.
Source: Prometheus, rules/alerting.go (`resolvedRetention`)."""


class AlertState(StrEnum):
    """Where an alert stands."""

    INACTIVE = "inactive"
    """It has ended, and its end may not have been heard."""
    PENDING = "pending"
    FIRING = "firing"


class ActiveAlert(NamedTuple):
    """One alert; times are milliseconds since 1970 UTC of the evaluations that moved it."""

    labels: Labels
    """Its identity."""
    element: Labels
    """Labels of the element that raised it, for the templates of its annotations."""
    value: float
    """Of the last evaluation in which it was there."""
    state: AlertState
    active_at_ms: int
    """Since when it is there, `for` counts from here."""
    fired_at_ms: int | None = None
    resolved_at_ms: int | None = None
    keep_firing_since_ms: int | None = None
    """Since when it only goes on firing because of `keep_firing_for`."""
    sent_at_ms: int | None = None
    """When it was passed on last."""


@dataclass(frozen=True, slots=True)
class RuleState:
    """The alerts of one rule between two evaluations."""

    alerts: Mapping[Labels, ActiveAlert] = field(default_factory=dict)
    """By their labels."""
    names: Mapping[Labels, Labels] = field(default_factory=dict)
    """Element -> labels of its alert, of the last evaluation: they need not be expanded again."""

    def live(self) -> Iterator[ActiveAlert]:
        """Those that are pending or firing."""
        return (one for one in self.alerts.values() if one.state is not AlertState.INACTIVE)


class RuleOutcome(NamedTuple):
    """What an evaluation of a rule has come to."""

    state: RuleState
    error: StateroomError | None = None
    """Why the rule failed; its alerts stand in `state` as they do then."""


@dataclass(frozen=True, slots=True, eq=False)
class AlertProgram:
    """An alerting rule with its templates parsed."""

    rule: AlertingRule
    labels: tuple[tuple[str, Template], ...]
    annotations: tuple[tuple[str, Template], ...]
    outside: Outside
    stable_names: bool
    """Whether an element's labels alone decide the labels of its alert."""

    def name(self, element: Labels, value: float) -> Labels:
        """The labels of the alert that an element raises."""
        given = dict(element)
        named = {name: text for name, text in element if name != METRIC_NAME}
        for name, template in self.labels:
            text = template.expand(given, value, self.outside)
            if text:
                named[name] = text
            else:
                named.pop(name, None)
        named[ALERT_NAME] = self.rule.name
        return tuple(sorted(named.items()))

    def tell(self, alert: ActiveAlert) -> Labels:
        """The annotations of an alert, for the element and value that it had last."""
        given = dict(alert.element)
        texts = [
            (name, template.expand(given, alert.value, self.outside))
            for name, template in self.annotations
        ]
        return tuple(sorted(texts))


def compile_rule(rule: AlertingRule, outside: Outside | None = None) -> AlertProgram:
    """Parse the templates of a rule.

    Raises:
        InvalidInputError: a template does not parse.
    """
    labels = tuple((name, parse_template(text)) for name, text in rule.labels)
    return AlertProgram(
        rule,
        labels,
        tuple((name, parse_template(text)) for name, text in rule.annotations),
        outside or Outside({}),
        not any(template.uses_value for _, template in labels),
    )


def evaluate_rule(
    program: AlertProgram, before: RuleState, vector: InstantVector, limit: int = 0
) -> RuleOutcome:
    """Move the alerts of a rule to what its query has found.

    Args:
        program: the rule.
        before: as the last evaluation left it.
        vector: what the rule's expression is now; its time is the evaluation's.
        limit: of the group: with more alerts the rule fails, and has none. 0: no limit.

    Returns:
        The alerts as they are. Two elements whose alerts have the same labels are an error: the
        alerts then stay as they were.
    """
    at_ms = vector.at_ms
    alerts: dict[Labels, ActiveAlert] = {}
    names: dict[Labels, Labels] = {}
    known = before.names if program.stable_names else {}
    for element, value in zip(vector.labels, vector.values.tolist(), strict=True):
        labels = known.get(element) or program.name(element, value)
        names[element] = labels
        if labels in alerts:
            return RuleOutcome(before, _same_labels(program.rule, labels))
        alerts[labels] = _seen(
            before.alerts.get(labels), labels, element, value, at_ms, program.rule
        )
    count = len(alerts)
    for labels, alert in before.alerts.items():
        if labels not in alerts:
            gone = _gone(alert, at_ms, program.rule.keep_firing_for_ms)
            if gone is not None:
                alerts[labels] = gone
                count += gone.state is not AlertState.INACTIVE
    if 0 < limit < count:
        text = f"rule {program.rule.name}: exceeded limit of {limit} with {count} alerts"
        return RuleOutcome(RuleState(), TooLargeError(text, hint="Narrow the rule's expression."))
    return RuleOutcome(RuleState(alerts, names))


def _seen(
    old: ActiveAlert | None,
    labels: Labels,
    element: Labels,
    value: float,
    at_ms: int,
    rule: AlertingRule,
) -> ActiveAlert:
    """An alert whose element is there."""
    if old is None or old.state is AlertState.INACTIVE:
        if rule.for_ms == 0:
            return ActiveAlert(labels, element, value, AlertState.FIRING, at_ms, at_ms)
        return ActiveAlert(labels, element, value, AlertState.PENDING, at_ms)
    state, fired_at_ms = old.state, old.fired_at_ms
    if state is AlertState.PENDING and at_ms - old.active_at_ms >= rule.for_ms:
        state, fired_at_ms = AlertState.FIRING, at_ms
    return ActiveAlert(
        labels, element, value, state, old.active_at_ms, fired_at_ms, None, None, old.sent_at_ms
    )


def _gone(old: ActiveAlert, at_ms: int, keep_firing_for_ms: int) -> ActiveAlert | None:
    """An alert whose element is not there; None when it is forgotten."""
    if old.state is AlertState.PENDING:
        return None
    if old.state is AlertState.INACTIVE:
        assert old.resolved_at_ms is not None, "an alert that has ended knows when"
        return old if at_ms - old.resolved_at_ms <= RESOLVED_KEPT_MS else None
    since_ms = old.keep_firing_since_ms
    if keep_firing_for_ms > 0:
        since_ms = at_ms if since_ms is None else since_ms
        if at_ms - since_ms < keep_firing_for_ms:
            return old._replace(keep_firing_since_ms=since_ms)
    return old._replace(
        state=AlertState.INACTIVE, resolved_at_ms=at_ms, keep_firing_since_ms=since_ms
    )


def _same_labels(rule: AlertingRule, labels: Labels) -> InvalidInputError:
    return InvalidInputError(
        f"rule {rule.name}",
        labels_text(labels),
        "one element for each label set after the rule's labels are applied",
        hint="Keep the label that tells the elements apart.",
    )
