"""Rule files: what promtool refuses is refused, all at once, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.alerts.durations import duration_text, parse_duration_ms
from fleet.alerts.loading import load_rules
from fleet.alerts.rules import AlertingRule, RecordingRule
from fleet.errors import InvalidDocumentError, InvalidInputError
from tests.servers.promtool import run_promtool

GOOD = """
groups:
  - name: nodes
    interval: 30s
    limit: 5
    rules:
      - record: node:up:sum
        expr: sum(up) by (node)
        labels: {team: fleet}
      - alert: NodeDown
        expr: |
          up == 0
        for: 1h30m
        keep_firing_for: 5m
        labels:
          severity: critical
          tier: 1
        annotations:
          summary: "{{ $labels.node }} is down"
  - name: empty
    rules: []
"""

BAD = {
    "no name": ("groups: [{rules: []}]", "a name"),
    "twice": ("groups: [{name: a, rules: []}, {name: a, rules: []}]", "one group of the file"),
    "neither": ("groups: [{name: a, rules: [{expr: up}]}]", "exactly one of"),
    "both": ("groups: [{name: a, rules: [{alert: A, record: b, expr: up}]}]", "exactly one of"),
    "expr": ("groups: [{name: a, rules: [{alert: A, expr: 'sum('}]}]", "PromQL that parses"),
    "no expr": ("groups: [{name: a, rules: [{alert: A}]}]", "an expression in PromQL"),
    "for": ("groups: [{name: a, rules: [{alert: A, expr: up, for: 5 m}]}]", "1h30m"),
    "record": ("groups: [{name: a, rules: [{record: 1a, expr: up}]}]", "name of a metric"),
    "record for": ("groups: [{name: a, rules: [{record: a, expr: up, for: 1m}]}]", "only on a"),
    "record keep": (
        "groups: [{name: a, rules: [{record: a, expr: up, keep_firing_for: 1m}]}]",
        "only on a",
    ),
    "record words": (
        "groups: [{name: a, rules: [{record: a, expr: up, annotations: {b: c}}]}]",
        "only on a",
    ),
    "label": ("groups: [{name: a, rules: [{alert: A, expr: up, labels: {1a: b}}]}]", "letters"),
    "named": (
        "groups: [{name: a, rules: [{alert: A, expr: up, labels: {__name__: b}}]}]",
        "letters",
    ),
    "annotation": (
        "groups: [{name: a, rules: [{alert: A, expr: up, annotations: {a-b: c}}]}]",
        "letters",
    ),
    "template": (
        "groups: [{name: a, rules: [{alert: A, expr: up, annotations: {a: '{{ $no }}'}}]}]",
        "undefined variable",
    ),
    "key": ("groups: [{name: a, rules: [{alert: A, expr: up, fore: 1m}]}]", "one of alert"),
    "group key": ("groups: [{name: a, intervall: 1m, rules: []}]", "one of name"),
    "top key": ("groups: []\nrules: []", "one of groups"),
    "list": ("groups: {name: a}", "a list"),
    "rule": ("groups: [{name: a, rules: [up]}]", "a mapping"),
    "yaml": ("groups: [", "YAML that parses"),
    "yaml twice": ("groups: []\ngroups: []", "each key once"),
    "limit": ("groups: [{name: a, limit: many, rules: []}]", "whole number"),
}


def test_a_file_gives_its_groups_in_order_with_lines() -> None:
    """Scalars are texts as they were written; durations are milliseconds."""
    nodes, empty = load_rules({"rules.yml": GOOD})
    assert (nodes.name, nodes.interval_ms, nodes.limit) == ("nodes", 30_000, 5)
    assert nodes.key == "rules.yml;nodes"
    assert empty.rules == ()
    assert empty.interval_ms == 60_000
    record, alert = nodes.rules
    assert record == RecordingRule("node:up:sum", "sum(up) by (node)", (("team", "fleet"),), 7)
    assert alert == AlertingRule(
        "NodeDown",
        "up == 0",
        5_400_000,
        300_000,
        (("severity", "critical"), ("tier", "1")),
        (("summary", "{{ $labels.node }} is down"),),
        10,
    )
    assert nodes.alerting == (alert,)
    assert load_rules({}) == ()
    assert load_rules({"empty.yml": ""}) == ()


def test_what_is_taken_here_is_taken_by_promtool(tmp_path: Path) -> None:
    """The good file passes `promtool check rules`."""
    (tmp_path / "rules.yml").write_text(GOOD)
    assert run_promtool("check", "rules", "rules.yml", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_promtool_refuses_is_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    """Each file is wrong in one way, for both."""
    text, says = BAD[name]
    (tmp_path / "rules.yml").write_text(text)
    assert run_promtool("check", "rules", "rules.yml", cwd=tmp_path).returncode != 0
    with pytest.raises(InvalidDocumentError, match=says) as refused:
        load_rules({"rules.yml": text})
    assert "rules.yml" in str(refused.value)


def test_what_the_parser_panics_at_or_nobody_answers_is_refused_with_its_line() -> None:
    """A rule that could never be evaluated is found by day."""
    for expr in ("x offset 99999999999999999999y", "nosuchfunction(x)"):
        text = f"groups: [{{name: a, rules: [{{alert: A, expr: '{expr}'}}]}}]"
        with pytest.raises(InvalidDocumentError, match=r"line 1.*PromQL that parses"):
            load_rules({"rules.yml": text})


def test_every_problem_of_every_file_is_listed_with_its_line() -> None:
    """One look at the error is enough to mend all of it."""
    first = "groups:\n- name: a\n  rules:\n  - alert: A\n    expr: up >\n    for: soon\n"
    second = "groups:\n- name: b\n  rules:\n  - record: r\n    expr: ''\n    other: 1\n"
    with pytest.raises(InvalidDocumentError) as refused:
        load_rules({"one.yml": first, "two.yml": second})
    told = str(refused.value)
    assert "4 problems" in told
    for place in ("one.yml line 5", "one.yml line 6", "two.yml line 5", "two.yml line 6"):
        assert place in told, place


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("0", 0),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("500ms", 500),
        ("1y2w3d4h5m6s7ms", 31_536_000_000 + 1_209_600_000 + 273_906_007),
        ("1d", 86_400_000),
    ],
)
def test_a_duration_is_read_as_prometheus_reads_it(text: str, duration_ms: int) -> None:
    """And written as it writes it."""
    assert parse_duration_ms("for", text) == duration_ms
    assert parse_duration_ms("for", duration_text(duration_ms)) == duration_ms


@pytest.mark.parametrize("text", ["", "5", "m", "5M", "30m1h", "1.5h", "-5m", "5m ", "300y"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(InvalidInputError, match="for"):
        parse_duration_ms("for", text)
