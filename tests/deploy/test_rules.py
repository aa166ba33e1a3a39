"""The shipped rules: promtool and our evaluator say the same of every test, and nothing dangles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.alerts.loading import load_rules
from fleet.alerts.rule_tests import load_rule_tests, run_rule_tests
from fleet.alerts.rules import AlertingRule, RuleGroup
from fleet.metrics.catalogue import BY_SERIES, METRICS, catalogue_table
from fleet.metrics.memory_series import MemorySeries
from fleet.metrics.samples import MetricType
from fleet.ports.query_engine import QueryEngine
from fleet.promql.engine import PromqlEngine
from fleet.promql.semantics import PROMETHEUS_2, PROMETHEUS_3, Semantics
from fleet.recovery_objectives import ObjectivePolicy
from resources.local.agent_meters import AgentMeters, Work
from resources.local.agent_page import AgentFigures, render_agents
from resources.local.agent_requests import METRICS_MAX
from resources.local.node_metrics import NodeCollector, NodeFigures
from resources.local.work_totals import TOOLS_MAX, WorkloadKey, WorkTotals
from tests.servers.promtool import run_promtool

ROOT = Path(__file__).parent.parent.parent
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
TESTS = sorted((ROOT / "deploy/prometheus/tests").glob("*_test.yml"))
VERSIONS = [
    pytest.param(PROMETHEUS_3, id="3.x"),  # what we answer by
    pytest.param(PROMETHEUS_2, id="2.x", marks=pytest.mark.long),
]
ADDED = {"le", "job", "instance", "alertname", "alertstate", "severity"}


def groups_of(path: Path) -> tuple[RuleGroup, ...]:
    """The groups of one file."""
    return load_rules({path.name: path.read_text()})


def alerts() -> list[AlertingRule]:
    """Every alert that is shipped."""
    return [rule for path in RULES for group in groups_of(path) for rule in group.alerting]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_promtool_passes_every_case(path: Path) -> None:
    """Prometheus' own word on the shipped rules."""
    found = run_promtool("test", "rules", path.name, cwd=path.parent)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("semantics", VERSIONS)
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_our_evaluator_passes_every_case(path: Path, semantics: Semantics) -> None:
    """The same files, by the rules of both versions of Prometheus."""

    def engine(series: MemorySeries) -> QueryEngine:
        return PromqlEngine(series, semantics=semantics)

    tests = load_rule_tests(path.name, path.read_text())
    groups = [group for name in tests.rule_files for group in groups_of(path.parent / name)]
    results = run_rule_tests(tests, groups, engine)
    assert len(results) == sum(len(test.alerts) + len(test.exprs) for test in tests.tests)
    assert [one for one in results if not one.passed] == []


def test_every_alert_is_tested_firing_and_silent() -> None:
    """An alert that was never seen to fire is a hope, one never seen silent is noise."""
    fires, rests = set(), set()
    for path in TESTS:
        for test in load_rule_tests(path.name, path.read_text()).tests:
            for case in test.alerts:
                (fires if case.expected else rests).add(case.alert)
    names = {rule.name for rule in alerts()}
    assert fires == names
    assert rests == names


def test_every_alert_says_what_and_leads_to_an_entry_of_the_runbook() -> None:
    """`runbook_url` is a file of the repository and a heading in it."""
    for rule in alerts():
        words = dict(rule.annotations)
        assert set(words) == {"summary", "description", "runbook_url"}, rule.name
        assert dict(rule.labels)["severity"] in {"critical", "warning"}
        file, _, anchor = words["runbook_url"].partition("#")
        headings = re.findall(r"^## (.+)$", (ROOT / file).read_text(), re.MULTILINE)
        assert rule.name in headings
        assert anchor == rule.name.lower()


def test_no_two_alerts_share_a_name() -> None:
    """A silence and a runbook entry go by the name."""
    names = [rule.name for rule in alerts()]
    assert len(names) == len(set(names))


def test_rules_use_only_metrics_and_labels_of_the_catalogue() -> None:
    """Matchers, `by` and `on` name labels that the metric has; rates are taken of counters."""
    for path in RULES:
        for group in groups_of(path):
            for rule in group.rules:
                _check(rule.name, promql.parse(rule.expr))


def _check(rule: str, tree: Any) -> None:
    selectors = list(_selectors(tree))
    assert selectors, rule
    known = ADDED.union(*(BY_SERIES[one.name].labels for one, _ in selectors))
    for selector, function in selectors:
        metric = BY_SERIES[selector.name]
        own = {*metric.labels, *ADDED}
        assert {one.name for one in selector.matchers.matchers} <= own, rule
        if function in {"rate", "increase"}:
            assert metric.type is not MetricType.GAUGE, rule
    used = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", str(tree))
    labels = {label.strip() for text in used for label in text.split(",") if label.strip()}
    assert labels <= known, (rule, labels - known)


def _selectors(tree: Any, function: str = "") -> Iterator[tuple[Any, str]]:
    """Every selector, with the function that it stands in."""
    if isinstance(tree, promql.VectorSelector):
        yield tree, function
    elif isinstance(tree, promql.MatrixSelector):
        yield tree.vector_selector, function
    elif isinstance(tree, promql.BinaryExpr):
        yield from _selectors(tree.lhs, function)
        yield from _selectors(tree.rhs, function)
    elif isinstance(tree, promql.Call):
        for argument in tree.args:
            yield from _selectors(argument, tree.func.name)
    elif isinstance(tree, promql.AggregateExpr | promql.ParenExpr | promql.UnaryExpr):
        yield from _selectors(tree.expr, function)
    else:
        assert isinstance(tree, promql.NumberLiteral | promql.StringLiteral), type(tree)


def test_the_document_has_exactly_the_catalogue() -> None:
    """Nobody reads a table that may be old."""
    text = (ROOT / "docs/metrics.md").read_text()
    assert text.partition("-->\n")[2].strip() == catalogue_table()


def test_the_catalogue_keeps_the_rules_of_names() -> None:
    """Once each, counters end in `_total`, labels sorted, units in names."""
    names = [one.name for one in METRICS]
    assert len(names) == len(set(names))
    for one in METRICS:
        assert list(one.labels) == sorted(set(one.labels)), one.name
        assert one.help.endswith("."), one.name
        assert not {"job", "instance"} & set(one.labels), f"{one.name}: a scrape adds these"
        if one.name.startswith(("agent_", "stateroom_")):
            assert (one.type is MetricType.COUNTER) == one.name.endswith("_total"), one.name
            for unit in ("seconds", "bytes", "ratio"):
                named = one.name.removesuffix("_total").endswith(f"_{unit}")
                assert (one.unit == unit) == named, one.name


def test_nodes_export_what_the_catalogue_says_of_them() -> None:
    """Names, types and labels of a node's own page."""
    figures = NodeFigures(
        ready=True,
        lease_remaining_s=1.0,
        lease_term=1,
        heartbeats=1,
        heartbeats_late=0,
        heartbeats_failed=0,
        heartbeat_duration_s=0.1,
        agents={("cpu", "running"): 1},
        agent_restarts={"cpu": 1},
        agent_memory_bytes={"cpu": 1},
        writes={"stored": 1},
        writes_queued=0,
        probes={"answered": 1},
        probe_reports_refused=0,
        zygote_losses=0,
        supervisor_cpu_s=1.0,
    )
    exported = {
        sample.name: (family.type, tuple(sorted(sample.labels)))
        for family in NodeCollector("n1", "eu", figures).collect()
        for sample in family.samples
    }
    known = {
        one.name: (one.type.value, one.labels)
        for one in METRICS
        if one.name.startswith("stateroom_node_")
    }
    assert exported == known


def test_agents_are_exported_as_the_catalogue_says() -> None:
    """Names, types and labels of a node's page of agents, with everything that one can count."""
    work = Work(3, 1, 0.5, (1, 2, *[0] * 14))
    meters = AgentMeters(work, work, {("f", "t"): work}, 2)
    agent = AgentFigures("a1", "n", "w", 1.0, 50.0, 100, 0, meters, {"depth": 1.0})
    totals = WorkTotals()
    totals.add(WorkloadKey("n", "w"), AgentMeters(), meters)
    text = render_agents("n1", "eu", [agent], totals).decode()
    exported: dict[str, tuple[str, tuple[str, ...]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name if family.type == "counter" else family.name
            labels = tuple(sorted(sample.labels.keys() - {"le"}))
            exported[name] = (family.type, labels)
    known = {
        one.name: (one.type.value, one.labels) for one in METRICS if one.name.startswith("agent_")
    }
    assert exported == known


def test_what_an_agent_names_itself_is_bounded_as_the_catalogue_says() -> None:
    """The numbers in the document are those that a node enforces."""
    values, tools = BY_SERIES["agent_reported_value"], BY_SERIES["agent_tool_calls_total"]
    assert values.bound.startswith(f"{METRICS_MAX} values")
    assert f"at most {TOOLS_MAX} tools" in tools.bound


def test_limits_of_backups_are_the_defaults_of_the_settings() -> None:
    """Whoever changes a default changes the rule."""
    text = (ROOT / "deploy/prometheus/rules/backups.yml").read_text()
    policy = ObjectivePolicy()
    limits = {
        "stateroom_backup_age_seconds": policy.backup_max_age_s,
        "stateroom_recovery_point_age_seconds": policy.rpo_max_s,
        "stateroom_recovery_time_seconds": policy.rto_max_s,
        "stateroom_replica_lag_seconds": policy.replica_lag_max_s,
    }
    for name, limit in limits.items():
        found = re.findall(rf"{name}{{[^}}]*}} > (\d+)", text)
        assert [float(one) for one in found] == [limit, limit], name
    ages = re.findall(r"verified_age_seconds{level=~?\"(\S+?)\",[^}]*} > (\d+)", text)
    assert {(level, float(age)) for level, age in ages} == {
        ("V1", policy.v1_max_age_s),
        ("V2|V3|V4", policy.v2_max_age_s),
        ("V5", policy.v5_max_age_s),
    }
    assert policy.v2_max_age_s == policy.v3_max_age_s == policy.v4_max_age_s
