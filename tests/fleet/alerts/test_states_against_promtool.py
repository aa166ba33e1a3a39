"""States of alerts, minute by minute, against Prometheus' own evaluator on random worlds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from fleet.alerts.loading import load_rules
from fleet.alerts.rule_tests import EngineMaker, load_rule_tests, run_rule_tests
from fleet.metrics.memory_series import MemorySeries
from fleet.ports.query_engine import QueryEngine
from fleet.promql.engine import PromqlEngine
from fleet.promql.semantics import PROMETHEUS_2
from tests.fakes.query_engine import SmallEngine
from tests.servers.promtool import NOBODY, firing_alerts, run_promtool, samples_of

MINUTES = 30
WORLDS = 8

RULES = {
    "groups": [
        {
            "name": "plain",
            "rules": [
                {"alert": "AtOnce", "expr": "x > 0"},
                {"alert": "Waits", "expr": "x > 0", "for": "3m", "labels": {"severity": "page"}},
                {"alert": "Keeps", "expr": "x > 0", "keep_firing_for": "4m"},
                {
                    "alert": "WaitsAndKeeps",
                    "expr": "x > 1",
                    "for": "2m",
                    "keep_firing_for": "3m",
                    "labels": {"zone": "", "level": "{{ if gt $value 2.0 }}high{{ end }}"},
                    "annotations": {"summary": "{{ $labels.job }} is {{ $value | humanize }}"},
                },
                {"alert": "Gone", "expr": 'absent(x{job="a"})', "for": "1m"},
            ],
        },
        {
            "name": "recorded",
            "rules": [
                {"record": "x:sum", "expr": "sum(x)", "labels": {"from": "rule"}},
                {"alert": "Sum", "expr": "x:sum > 2", "for": "2m"},
                {"alert": "Cascade", "expr": 'ALERTS{alertname="Waits",alertstate="firing"}'},
            ],
        },
    ]
}
NAMES = [
    rule["alert"]
    for group in RULES["groups"]
    for rule in group["rules"]  # type: ignore[union-attr]
    if "alert" in rule
]


def promql_engine(series: MemorySeries) -> QueryEngine:
    """The real engine, by the rules of the promtool that is installed."""
    return PromqlEngine(series, semantics=PROMETHEUS_2)


both_engines = pytest.mark.parametrize("engine", [SmallEngine, promql_engine])


def world(seed: int, *more: str) -> dict[str, Any]:
    """A test whose series come, go, end and return; each case asks what fires."""
    generator = random.Random(seed)
    series = []
    for job in "abc":
        values: list[str] = []
        while len(values) < MINUTES + 8:
            value = generator.choice(["0", "1", "2", "3", "3", "_", "stale", *more])
            values += [value] * generator.randint(1, 7)
        series.append({"series": f'x{{job="{job}"}}', "values": " ".join(values)})
    return {
        "name": f"world {seed}",
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": [NOBODY]}
            for minute in range(MINUTES)
            for name in NAMES
        ],
    }


@both_engines
def test_what_fires_is_what_fires_in_prometheus_at_every_minute(
    engine: EngineMaker, tmp_path: Path
) -> None:
    """`for`, `keep_firing_for`, gaps, stale markers, `absent`, NaN, labels that are templates."""
    (tmp_path / "rules.yml").write_text(json.dumps(RULES))
    order = {"rule_files": ["rules.yml"], "group_eval_order": ["plain", "recorded"]}
    tests = [world(seed, "NaN") for seed in range(WORLDS)]
    told = firing_alerts(tmp_path, {**order, "tests": tests})
    assert len(told) == WORLDS * MINUTES * len(NAMES)
    assert sum(len(one.alerts) for one in told) > 1000
    expected: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in told:
        minute = _minutes(one.time)
        expected[one.test, one.alert, minute] = [
            {"exp_labels": dict(labels), "exp_annotations": dict(words)}
            for labels, words in one.alerts
        ]
    for test in tests:
        for case in test["alert_rule_test"]:
            key = (test["name"], case["alertname"], case["eval_time"])
            case["exp_alerts"] = expected[key]
    document = load_rule_tests("worlds", json.dumps({**order, "tests": tests}))
    groups = load_rules({"rules.yml": json.dumps(RULES)})
    results = run_rule_tests(document, groups, engine)
    assert len(results) == len(told)
    assert [one for one in results if not one.passed] == []


@both_engines
def test_the_series_of_alerts_are_those_of_prometheus(engine: EngineMaker, tmp_path: Path) -> None:
    """ALERTS and ALERTS_FOR_STATE, with their ends: sums and counts at every minute."""
    (tmp_path / "rules.yml").write_text(json.dumps(RULES))
    order = {"rule_files": ["rules.yml"], "group_eval_order": ["plain", "recorded"]}
    queries = [
        "sum by (alertname) (ALERTS_FOR_STATE)",
        'count by (alertname) (ALERTS{alertstate="pending"})',
        'count by (alertname) (ALERTS{alertstate="firing"})',
        "x:sum",
    ]
    test = world(99)
    test["alert_rule_test"] = []
    test["promql_expr_test"] = [
        {"expr": query, "eval_time": f"{minute}m", "exp_samples": [_nobody()]}
        for query in queries
        for minute in range(MINUTES)
    ]
    found = samples_of(tmp_path, {**order, "tests": [test]})
    assert len(found) == len(test["promql_expr_test"])
    for case in test["promql_expr_test"]:
        text = next(
            text
            for (query, time), text in found.items()
            if query == case["expr"] and _minutes(time) == case["eval_time"]
        )
        case["exp_samples"] = _samples(text)
    document = load_rule_tests("series", json.dumps({**order, "tests": [test]}))
    results = run_rule_tests(document, load_rules({"rules.yml": json.dumps(RULES)}), engine)
    assert [one for one in results if not one.passed] == []
    assert len(results) == len(found)


def _minutes(time: str) -> str:
    """Promtool writes 0m as 0s and 60m as 1h."""
    return "0m" if time == "0s" else time


def _nobody() -> dict[str, Any]:
    return {"labels": '{nobody="has this"}', "value": 1}


def _samples(text: str) -> list[dict[str, Any]]:
    """`{a="b"} 1E+00, {...} 2E+00` as samples that a test expects."""
    if text == "nil":
        return []
    found = []
    for part in text.split(", {"):
        labels, _, value = part.rpartition(" ")
        found.append({"labels": "{" + labels.removeprefix("{"), "value": float(value)})
    return found


def test_a_test_that_expects_otherwise_fails_in_both(tmp_path: Path) -> None:
    """The runner does not pass what promtool refuses."""
    (tmp_path / "rules.yml").write_text(json.dumps(RULES))
    test = world(1)
    told = firing_alerts(tmp_path, {"rule_files": ["rules.yml"], "tests": [test]})
    document = load_rule_tests("t", json.dumps({"rule_files": ["rules.yml"], "tests": [test]}))
    results = run_rule_tests(document, load_rules({"rules.yml": json.dumps(RULES)}), SmallEngine)
    assert len(told) == len(results) == len(test["alert_rule_test"])
    assert not any(one.passed for one in results)
    assert all("expected" in one.text for one in results)


def test_two_results_with_one_label_set_are_an_error_of_the_rule(tmp_path: Path) -> None:
    """Neither wins: promtool ends the test with the error, and so does the runner."""
    rule = {"alert": "A", "expr": "x", "labels": {"job": "same"}}
    rules = {"groups": [{"name": "g", "rules": [rule]}]}
    series = [{"series": f'x{{job="{job}"}}', "values": "1x5"} for job in "ab"]
    case = {"eval_time": "2m", "alertname": "A"}
    test = {"name": "t", "interval": "1m", "input_series": series, "alert_rule_test": [case]}
    asked = {"rule_files": ["r.yml"], "tests": [test]}
    (tmp_path / "r.yml").write_text(json.dumps(rules))
    (tmp_path / "t.yml").write_text(json.dumps(asked))
    theirs = run_promtool("test", "rules", "t.yml", cwd=tmp_path)
    assert theirs.returncode == 1
    assert "same labelset after applying alert labels" in theirs.stdout + theirs.stderr
    document = load_rule_tests("t", json.dumps(asked))
    (result,) = run_rule_tests(document, load_rules({"r.yml": json.dumps(rules)}), SmallEngine)
    assert not result.passed
    assert "one element for each label set" in result.text


def test_a_group_with_a_limit_fails_as_a_whole(tmp_path: Path) -> None:
    """Three alerts under a limit of two: none, and the error says how many."""
    rules = {"groups": [{"name": "g", "limit": 2, "rules": [{"alert": "A", "expr": "x > 0"}]}]}
    series = [{"series": f'x{{job="{job}"}}', "values": "1x5"} for job in "abc"]
    case = {"eval_time": "2m", "alertname": "A"}
    test = {"name": "t", "interval": "1m", "input_series": series, "alert_rule_test": [case]}
    asked = {"rule_files": ["r.yml"], "tests": [test]}
    (tmp_path / "r.yml").write_text(json.dumps(rules))
    (tmp_path / "t.yml").write_text(json.dumps(asked))
    theirs = run_promtool("test", "rules", "t.yml", cwd=tmp_path)
    assert "exceeded limit of 2 with 3 alerts" in theirs.stdout + theirs.stderr
    document = load_rule_tests("t", json.dumps(asked))
    (result,) = run_rule_tests(document, load_rules({"r.yml": json.dumps(rules)}), SmallEngine)
    assert "exceeded limit of 2 with 3 alerts" in result.text
