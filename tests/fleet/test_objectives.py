"""Objectives: their rules by promtool's word, their budgets by a table, no data as no data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.alerts.loading import load_rules
from fleet.alerts.rule_tests import load_rule_tests, run_rule_tests
from fleet.alerts.rule_yaml import rules_yaml
from fleet.errors import InvalidInputError
from fleet.metrics.memory_series import MemorySeries
from fleet.objectives import (
    BURNS,
    LATENCY_BOUNDS_MS,
    BudgetState,
    Objective,
    ObjectiveKind,
    judge_budget,
    objective_group,
    objective_groups,
)
from fleet.ports.query_engine import QueryEngine
from fleet.promql.engine import PromqlEngine
from fleet.promql.semantics import PROMETHEUS_2
from resources.local.agent_meters import BOUNDS_S
from tests.servers.promtool import NOBODY, firing_alerts, run_promtool

AVAILABLE = Objective("api", ObjectiveKind.AVAILABILITY, 0.99, network="n", service="w")
QUICK = Objective("quick", ObjectiveKind.LATENCY, 0.95, latency_ms=500)
WHOLE_SECOND = Objective("second", ObjectiveKind.LATENCY, 0.95, latency_ms=1000)
TASKS = Objective("tasks", ObjectiveKind.ERROR_RATE, 0.999, region="eu")
ALL = (AVAILABLE, QUICK, WHOLE_SECOND, TASKS)
WHO = 'agent="a",network="n",node="n1",region="eu",workload="w"'


def engine(series: MemorySeries) -> QueryEngine:
    """By the rules of the promtool that is installed."""
    return PromqlEngine(series, semantics=PROMETHEUS_2)


def series(name: str, values: str, **more: str) -> dict[str, str]:
    """One input series of an agent."""
    added = "".join(f',{key}="{value}"' for key, value in more.items())
    return {"series": f"{name}{{{WHO}{added}}}", "values": values}


WORLDS = {
    "a short outage burns fast and ends fast": [
        series("agent_requests_total", "0+60x400"),
        series("agent_request_errors_total", "0x100 0+60x30 1800x270"),
    ],
    "a slow burn": [
        series("agent_requests_total", "0+100x400"),
        series("agent_request_errors_total", "0+8x400"),
    ],
    "no error was ever counted": [series("agent_requests_total", "0+60x400")],
    "nobody asks": [series("agent_requests_total", "7x400")],
    "slow answers of whole seconds": [
        *(
            series("agent_request_duration_seconds_bucket", f"0+{count}x400", le=bound)
            for bound, count in (("0.5", 20), ("1.0", 60), ("+Inf", 100))
        ),
        series("agent_request_duration_seconds_count", "0+100x400"),
    ],
    "tasks that fail": [
        series("agent_tasks_total", "0+1000x400"),
        series("agent_task_errors_total", "0+2x400"),
    ],
}


def test_the_rules_of_objectives_fire_as_promtool_says(tmp_path: Path) -> None:
    """Burn alerts and missing data, in worlds of six hours, at every half hour."""
    groups = objective_groups(ALL)
    (tmp_path / "rules.yml").write_text(rules_yaml(groups))
    checked = run_promtool("check", "rules", "rules.yml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tests: list[dict[str, Any]] = [
        {
            "name": name,
            "interval": "1m",
            "input_series": found,
            "alert_rule_test": [
                {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": [NOBODY]}
                for minute in range(10, 400, 30)
                for alert in ("ErrorBudgetBurn", "ObjectiveWithoutData")
            ],
        }
        for name, found in WORLDS.items()
    ]
    order = {"rule_files": ["rules.yml"], "evaluation_interval": "10m"}
    told = firing_alerts(tmp_path, {**order, "tests": tests})
    cases = [(test, case) for test in tests for case in test["alert_rule_test"]]
    assert len(told) == len(cases)
    fired = set()
    for one, (test, case) in zip(told, cases, strict=True):
        assert (one.test, one.alert) == (test["name"], case["alertname"])
        case["exp_alerts"] = [
            {"exp_labels": dict(labels), "exp_annotations": dict(words)}
            for labels, words in one.alerts
        ]
        fired |= {
            (one.test, dict(labels).get("burn", "no data"), dict(labels)["objective"])
            for labels, _ in one.alerts
        }
    assert ("a short outage burns fast and ends fast", "14.4", "api") in fired
    assert ("a slow burn", "6", "api") in fired
    assert ("a slow burn", "14.4", "api") not in fired
    assert ("slow answers of whole seconds", "6", "second") in fired
    assert ("tasks that fail", "1", "tasks") in fired
    assert ("nobody asks", "no data", "api") in fired
    assert not any(
        world == "no error was ever counted" and name == "api" for world, _, name in fired
    )
    document = load_rule_tests("objectives", json.dumps({**order, "tests": tests}))
    results = run_rule_tests(document, groups, engine)
    assert [one for one in results if not one.passed] == []
    assert len(results) == len(cases)


def test_rules_written_for_prometheus_read_back_the_same() -> None:
    """The YAML is the group, but for lines and file."""
    groups = objective_groups(ALL)
    found = load_rules({"objectives": rules_yaml(groups)})
    bare = [
        group._replace(rules=tuple(rule._replace(line=0) for rule in group.rules))
        for group in found
    ]
    sorted_labels = [
        group._replace(
            rules=tuple(rule._replace(labels=tuple(sorted(rule.labels))) for rule in group.rules)
        )
        for group in groups
    ]
    assert bare == sorted_labels


def test_every_alert_of_an_objective_leads_to_the_runbook() -> None:
    """As those that are shipped."""
    text = (Path(__file__).parent.parent.parent / "docs/runbook_alerts.md").read_text()
    for rule in objective_group(AVAILABLE).alerting:
        file, _, anchor = dict(rule.annotations)["runbook_url"].partition("#")
        assert file == "docs/runbook_alerts.md"
        assert f"## {rule.name}\n" in text
        assert anchor == rule.name.lower()


def test_bounds_of_latency_are_those_that_agents_count() -> None:
    """Between two bounds nobody counts."""
    assert tuple(bound / 1000 for bound in LATENCY_BOUNDS_MS) == BOUNDS_S


@pytest.mark.parametrize(
    ("total", "bad", "state", "left"),
    [
        (1000.0, 0.0, BudgetState.KEPT, 1.0),
        (1000.0, 5.0, BudgetState.KEPT, 0.5),
        (1000.0, 10.0, BudgetState.KEPT, 0.0),
        (1000.0, 30.0, BudgetState.MISSED, -2.0),
        (0.0, 0.0, BudgetState.NO_DATA, None),
        (None, None, BudgetState.NO_DATA, None),
        (10.0, None, BudgetState.NO_DATA, None),
    ],
)
def test_a_budget_is_what_the_window_left_of_it(
    total: float | None, bad: float | None, state: BudgetState, left: float | None
) -> None:
    """No data is neither kept nor missed."""
    found = judge_budget(AVAILABLE, total, bad, {})
    assert found.state is state
    assert found.left_ratio == (None if left is None else pytest.approx(left, abs=1e-9))


def test_a_budget_that_burns_in_both_windows_is_at_risk() -> None:
    """One window alone is a peak that is over, or one that has just begun."""
    both = {"1h": 0.2, "5m": 0.2}
    assert judge_budget(AVAILABLE, 1000.0, 1.0, both).state is BudgetState.AT_RISK
    for one in ({"1h": 0.2}, {"1h": 0.2, "5m": None}, {"1h": 0.01, "5m": 0.2}):
        assert judge_budget(AVAILABLE, 1000.0, 1.0, one).state is BudgetState.KEPT
    burns = judge_budget(AVAILABLE, 1000.0, 1.0, both).burn_rates
    assert burns == {"1h": pytest.approx(20.0), "5m": pytest.approx(20.0)}


@given(total=st.floats(1, 1e9), share=st.floats(0, 1), target=st.floats(0.94, 0.99999))
def test_a_budget_is_overdrawn_exactly_when_the_target_is_missed(
    total: float, share: float, target: float
) -> None:
    """Up to rounding."""
    objective = Objective("o", ObjectiveKind.ERROR_RATE, target)
    found = judge_budget(objective, total, total * share, {})
    assert found.left_ratio is not None
    assert found.left_ratio == pytest.approx(1 - share / (1 - target), rel=1e-6, abs=1e-6)
    assert (found.state is BudgetState.MISSED) == (found.left_ratio < -1e-9)


@pytest.mark.parametrize(
    ("given_fields", "field"),
    [
        ({"target": 0.5}, "target"),
        ({"target": 1.0}, "target"),
        ({"name": "a b"}, "name"),
        ({"service": '"'}, "service"),
        ({"latency_ms": 500}, "latency_ms"),
        ({"kind": ObjectiveKind.LATENCY}, "latency_ms"),
        ({"kind": ObjectiveKind.LATENCY, "latency_ms": 400}, "latency_ms"),
        ({"window_days": 0}, "window_days"),
    ],
)
def test_an_objective_without_sense_is_refused(given_fields: dict[str, Any], field: str) -> None:
    """Names the field."""
    fields = {"name": "o", "kind": ObjectiveKind.AVAILABILITY, "target": 0.99, **given_fields}
    with pytest.raises(InvalidInputError, match=field):
        Objective(**fields)


def test_two_objectives_of_one_name_are_refused() -> None:
    """Their ratios would be one series."""
    with pytest.raises(InvalidInputError, match="each name once"):
        objective_groups([TASKS, TASKS])


def test_no_burn_alert_is_beyond_what_can_be_measured() -> None:
    """At the lowest target the fastest burn is still a ratio below one."""
    worst = Objective("o", ObjectiveKind.AVAILABILITY, 0.94)
    assert max(burn.factor for burn in BURNS) * worst.budget < 1
