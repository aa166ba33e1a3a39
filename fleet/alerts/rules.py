"""Rules as they stand in a file: groups of alerting and recording rules, in their order."""

from __future__ import annotations

from typing import NamedTuple

from fleet.metrics.labels import Labels

ALERT_NAME = "alertname"
"""Label that every alert carries; its value is the rule's name."""
DEFAULT_INTERVAL_MS = 60_000
"""Of a group that names none. Source: Prometheus, `global.evaluation_interval`."""


class AlertingRule(NamedTuple):
    """Every element of the expression's result is an alert."""

    name: str
    expr: str
    for_ms: int = 0
    """How long an element must be there before its alert fires; 0: at once."""
    keep_firing_for_ms: int = 0
    """How long an alert goes on firing after its element has gone."""
    labels: Labels = ()
    """Put on the alert; values are templates."""
    annotations: Labels = ()
    """Words for people; values are templates. They do not tell alerts apart."""
    line: int = 0
    """Where it begins in its file, from 1; 0 where it has none."""


class RecordingRule(NamedTuple):
    """The expression's result is kept as a series of a name of its own."""

    name: str
    """Of the metric."""
    expr: str
    labels: Labels = ()
    """Put on each element; no templates."""
    line: int = 0


Rule = AlertingRule | RecordingRule


class RuleGroup(NamedTuple):
    """Rules that are evaluated one after another, at one moment."""

    name: str
    rules: tuple[Rule, ...]
    file: str = ""
    interval_ms: int = DEFAULT_INTERVAL_MS
    limit: int = 0
    """Most alerts or series of one rule; one with more fails as a whole. 0: no limit."""

    @property
    def key(self) -> str:
        """Names the group among all files, as Prometheus does."""
        return f"{self.file};{self.name}"

    @property
    def alerting(self) -> tuple[AlertingRule, ...]:
        """Its alerting rules, in order."""
        return tuple(rule for rule in self.rules if isinstance(rule, AlertingRule))
