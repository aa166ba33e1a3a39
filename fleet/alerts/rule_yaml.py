"""Writes rules as Prometheus reads them; `fleet.alerts.loading` reads them back the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fleet.alerts.durations import duration_text
from fleet.alerts.rules import AlertingRule, Rule, RuleGroup


def rules_yaml(groups: Iterable[RuleGroup]) -> str:
    """The text of a rule file with these groups, keys in the usual order."""
    import yaml

    document = {"groups": [_group(group) for group in groups]}
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))


def _group(group: RuleGroup) -> dict[str, Any]:
    found: dict[str, Any] = {"name": group.name, "interval": duration_text(group.interval_ms)}
    if group.limit:
        found["limit"] = group.limit
    return {**found, "rules": [_rule(rule) for rule in group.rules]}


def _rule(rule: Rule) -> dict[str, Any]:
    if not isinstance(rule, AlertingRule):
        found: dict[str, Any] = {"record": rule.name, "expr": rule.expr}
        return {**found, "labels": dict(rule.labels)} if rule.labels else found
    found = {"alert": rule.name, "expr": rule.expr}
    for key, value_ms in (("for", rule.for_ms), ("keep_firing_for", rule.keep_firing_for_ms)):
        if value_ms:
            found[key] = duration_text(value_ms)
    for key, pairs in (("labels", rule.labels), ("annotations", rule.annotations)):
        if pairs:
            found[key] = dict(pairs)
    return found
