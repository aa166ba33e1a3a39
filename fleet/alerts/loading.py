"""Rules from Prometheus' own files, refused as a whole with every problem at once.

The checks are those of `promtool check rules` (rulefmt), and one more: what a template uses must
exist here, and every expression must be one that is answered here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fleet.alerts.durations import parse_duration_ms
from fleet.alerts.rules import (
    DEFAULT_INTERVAL_MS,
    AlertingRule,
    RecordingRule,
    Rule,
    RuleGroup,
)
from fleet.alerts.templates import check_template
from fleet.alerts.yaml_nodes import Mapped, Problems, mapped, read_yaml
from fleet.errors import InvalidDocumentError, InvalidInputError, Problem
from fleet.metrics.labels import METRIC_NAME, Labels

if TYPE_CHECKING:
    from yaml.nodes import Node

HINT = "`stateroom alerts check FILE` checks again."
_GROUP_KEYS = ("name", "interval", "limit", "rules")
_RULE_KEYS = (
    "alert",
    "record",
    "expr",
    "for",
    "keep_firing_for",
    "labels",
    "annotations",
)
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


def load_rules(
    files: Mapping[str, str], default_interval_ms: int = DEFAULT_INTERVAL_MS
) -> tuple[RuleGroup, ...]:
    """The groups of all files, in the order of files and of groups in them.

    Args:
        files: name of each file and its text.
        default_interval_ms: of groups that name none.

    Raises:
        InvalidDocumentError: lists what is wrong in all of the files, with file and line.
    """
    groups: list[RuleGroup] = []
    found: list[Problem] = []
    for file, text in files.items():
        problems = Problems(file)
        groups += _groups(text, problems, default_interval_ms)
        found += problems.found
    if found:
        names = ", ".join(files) if len(files) <= 3 else f"{len(files)} files of rules"
        raise InvalidDocumentError(names, found, hint=HINT)
    return tuple(groups)


def _groups(text: str, problems: Problems, default_interval_ms: int) -> list[RuleGroup]:
    document = read_yaml(text, problems)
    if document is None:
        return []
    groups = [
        group
        for number, node in document.items("groups")
        if (group := _group(node, number, problems, default_interval_ms)) is not None
    ]
    document.close(("groups",))
    for name, count in Counter(group.name for group in groups).items():
        if count > 1:
            problems.add(0, "groups", name, "a name that one group of the file has")
    return groups


def _group(
    node: Node, number: int, problems: Problems, default_interval_ms: int
) -> RuleGroup | None:
    table = mapped(node, problems, f"groups[{number}]")
    if table is None:
        return None
    line, name = table.line_of("name"), table.text("name")
    if not name:
        problems.add(line, table.at("name"), name, "a name")
    table.path = f"group {name or number}"
    interval_ms = _duration(table, "interval") or default_interval_ms
    limit = table.whole("limit")
    rules = [
        rule
        for position, item in table.items("rules")
        if (rule := _rule(item, position, table, problems)) is not None
    ]
    table.close(_GROUP_KEYS)
    return RuleGroup(name, tuple(rules), problems.file, interval_ms, limit)


def _rule(node: Node, position: int, group: Mapped, problems: Problems) -> Rule | None:
    table = mapped(node, problems, f"{group.path}, rule {position}")
    if table is None:
        return None
    alert_line, alert = table.line_of("alert"), table.text("alert")
    record_line, record = table.line_of("record"), table.text("record")
    if bool(alert) == bool(record):
        problems.add(table.line, table.path, alert or "", "exactly one of 'alert' and 'record'")
    table.path = f"{group.path}, rule {alert or record or position}"
    if record and _METRIC.fullmatch(record) is None:
        problems.add(record_line, table.at("record"), record, "the name of a metric")
    expr = _expr(table, problems)
    for_ms, keep_ms = _duration(table, "for"), _duration(table, "keep_firing_for")
    labels = _labels(table, problems, templates=bool(alert))
    words = _annotations(table, problems)
    table.close(_RULE_KEYS)
    if record and not alert:
        _refuse_alert_keys(table, problems, for_ms, keep_ms, words)
        return RecordingRule(record, expr, labels, record_line)
    return AlertingRule(alert, expr, for_ms, keep_ms, labels, words, alert_line)


def _refuse_alert_keys(
    table: Mapped, problems: Problems, for_ms: int, keep_ms: int, words: Labels
) -> None:
    given = {"for": for_ms, "keep_firing_for": keep_ms, "annotations": words}
    for key, value in given.items():
        if value:
            problems.add(table.line_of(key), table.at(key), key, "only on a rule with 'alert'")


def _expr(table: Mapped, problems: Problems) -> str:
    line, expr = table.line_of("expr"), table.text("expr")
    if not expr.strip():
        problems.add(line, table.at("expr"), expr, "an expression in PromQL")
        return ""
    wrong = expression_problem(expr)
    if wrong:
        problems.add(line, table.at("expr"), expr, f"PromQL that parses: {wrong}")
    return expr.strip()


def expression_problem(expr: str) -> str:
    """What is wrong with an expression, or is not answered here; '' when nothing is."""
    from fleet.promql.parsing import parse

    try:
        parse(expr)
    except InvalidInputError as error:
        return " ".join(error.allowed.split())
    return ""


def _duration(table: Mapped, key: str) -> int:
    line, text = table.line_of(key), table.text(key)
    if not text:
        return 0
    field = table.at(key)
    return table.problems.attempt(line, field, lambda: parse_duration_ms(field, text), 0)


def _labels(table: Mapped, problems: Problems, *, templates: bool) -> Labels:
    entries = table.texts("labels")
    for name, text, line in entries:
        if _LABEL.fullmatch(name) is None or name == METRIC_NAME:
            problems.add(line, table.at(f"labels.{name}"), name, "letters, digits and '_'")
        if templates:
            _check_text(table, problems, f"labels.{name}", text, line)
    return _sorted(entries)


def _annotations(table: Mapped, problems: Problems) -> Labels:
    entries = table.texts("annotations")
    for name, text, line in entries:
        if _LABEL.fullmatch(name) is None:
            problems.add(line, table.at(f"annotations.{name}"), name, "letters, digits and '_'")
        _check_text(table, problems, f"annotations.{name}", text, line)
    return _sorted(entries)


def _check_text(table: Mapped, problems: Problems, key: str, text: str, line: int) -> None:
    wrong = check_template(text)
    if wrong:
        problems.add(line, table.at(key), text, wrong)


def _sorted(entries: Iterable[tuple[str, str, int]]) -> Labels:
    return tuple(sorted((name, text) for name, text, _ in entries))
