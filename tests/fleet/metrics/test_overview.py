"""The overview of the fleet: what it asks exists, and what nobody measured is not shown as 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import promql_parser as pp

from fleet.alerts.loading import load_rules
from fleet.errors import TooLargeError
from fleet.metrics.catalogue import BY_SERIES
from fleet.metrics.labels import METRIC_NAME, Matcher, MatchKind, labels_of, matchers_text
from fleet.metrics.overview import QUESTIONS, REGIONS_MAX, fleet_overview
from fleet.ports.metric_store import SelectedSeries
from fleet.promql.engine import PromqlEngine
from fleet.promql.parsing import matchers_of, parse, walked
from tests.fakes.metric_reader import InMemoryMetricReader

AT_MS = 1_772_323_200_000
RULES = Path(__file__).parents[3] / "deploy/prometheus/rules/agents.yml"
TASKS = "workload:agent_response_seconds_bucket:rate5m"


def counted(reader: InMemoryMetricReader, name: str, each: float, **labels: str) -> None:
    """A counter that rises evenly for five minutes, a sample each 15 s."""
    points = [(AT_MS - 300_000 + 15_000 * step, each * step) for step in range(1, 21)]
    reader.add(labels_of(name, labels), points)


def test_every_question_asks_for_what_is_exported_under_labels_that_it_has() -> None:
    """A number about a metric that nobody exports would be missing for ever."""
    asked = [(one, expr) for one in QUESTIONS for expr in (one.expr, one.recorded) if expr]
    for question, expr in asked:
        for node in walked(parse(expr)):
            if isinstance(node, pp.VectorSelector) and node.name != "up":
                metric = BY_SERIES[node.name]
                named = {matcher.name for matcher in matchers_of(node)} - {"__name__"}
                assert named <= set(metric.labels), question
                assert not question.by_region or "region" in metric.labels, question


def test_numbers_are_the_fleets_and_what_is_not_known_is_missing() -> None:
    """Totals and regions; no agents, no GPUs and no backups are no zeros, an all-clear is one."""
    reader = InMemoryMetricReader()
    for region, nodes in (("eu", 3.0), ("us", 2.0)):
        reader.add(
            labels_of("stateroom_nodes", {"region": region, "state": "live"}), [(AT_MS, nodes)]
        )
        reader.add(
            labels_of("stateroom_agents", {"region": region, "state": "running"}), [(AT_MS, 5.0)]
        )
        counted(reader, "agent_tasks_total", 30, agent=f"a-{region}", region=region)
        counted(reader, "agent_task_errors_total", 3, agent=f"a-{region}", region=region)
        reader.add(labels_of("up", {"instance": region}), [(AT_MS, 1.0)])
    counted(reader, "agent_requests_total", 0, region="eu")
    for bound in ("0.1", "+Inf"):
        counted(reader, "agent_request_duration_seconds_bucket", 0, region="eu", le=bound)
    found = fleet_overview(PromqlEngine(reader), AT_MS)
    assert {name: round(value, 6) for name, value in found.numbers.items()} == {
        "nodes live": 5, "agents running": 10, "agents without a place": 0, "tasks per second": 4,
        "tasks that fail, %": 10, "requests per second": 0, "targets down": 0,
        "nodes live in eu": 3, "nodes live in us": 2, "agents running in eu": 5,
        "agents running in us": 5, "tasks per second in eu": 2, "tasks per second in us": 2,
    }  # fmt: skip
    assert all(map(math.isfinite, found.numbers.values()))
    assert fleet_overview(PromqlEngine(reader), AT_MS + 3_600_000) == ({}, {})


def test_many_regions_are_bounded() -> None:
    """The first by name have numbers of their own; the total is of all."""
    reader = InMemoryMetricReader()
    for which in range(50):
        labels = {"region": f"r{which:02}", "state": "live"}
        reader.add(labels_of("stateroom_nodes", labels), [(AT_MS, 1.0)])
    found = fleet_overview(PromqlEngine(reader), AT_MS).numbers
    assert found["nodes live"] == 50
    assert [name for name in found if " in " in name] == [
        f"nodes live in r{which:02}" for which in range(REGIONS_MAX)
    ]


class NarrowReader(InMemoryMetricReader):
    """A store in which one metric has more series than a query may choose; counts the reads."""

    def __init__(self, too_many: str) -> None:
        """Nothing is in it."""
        super().__init__()
        self.too_many, self.selected = too_many, list[str]()

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> SelectedSeries:
        """Refuse the one metric."""
        text = matchers_text(matchers)
        self.selected.append(text)
        if self.too_many in text:
            raise TooLargeError("the query chooses too many series")
        return super().select(matchers, start_ms, end_ms)


def test_a_number_of_too_many_series_is_left_out_and_told() -> None:
    """The histograms of 10,000 nodes must not take the other numbers along."""
    reader = NarrowReader("agent_response_seconds_bucket")
    reader.add(labels_of("stateroom_nodes", {"region": "eu", "state": "live"}), [(AT_MS, 3.0)])
    found = fleet_overview(PromqlEngine(reader), AT_MS)
    assert found.numbers == {"nodes live": 3, "nodes live in eu": 3}
    assert found.left_out == {"time of tasks p95, ms": "the query chooses too many series"}


def test_each_selection_is_read_once_but_the_tasks_that_failures_are_a_share_of() -> None:
    """A read of raw samples is what a look costs."""
    reader = NarrowReader("nothing")
    fleet_overview(PromqlEngine(reader), AT_MS)
    twice = {one for one in reader.selected if reader.selected.count(one) > 1}
    assert twice == {matchers_text([Matcher(METRIC_NAME, MatchKind.EQUAL, "agent_tasks_total")])}


def test_quantiles_come_from_what_rules_have_recorded_and_else_from_the_buckets() -> None:
    """A million buckets are added up once a minute, by the rules; the same number either way."""
    reader = NarrowReader("nothing")
    groups = load_rules({RULES.name: RULES.read_text()})
    (recorded,) = [one for group in groups for one in group.rules if one.name == TASKS]
    for node, each in (("n1", 3.0), ("n2", 9.0)):
        for bound, share in (("0.1", 1), ("0.5", 2), ("+Inf", 2)):
            name = "agent_response_seconds_bucket"
            counted(reader, name, each * share, le=bound, node=node, network="n", workload="w")
    engine = PromqlEngine(reader)
    without = fleet_overview(engine, AT_MS).numbers
    by_workload = engine.instant(recorded.expr, AT_MS)
    for labels, value in zip(by_workload.labels, by_workload.values.tolist(), strict=True):
        reader.add(labels_of(TASKS, dict(labels)), [(AT_MS, value)])
    reader.selected.clear()
    assert fleet_overview(engine, AT_MS).numbers == without
    assert round(without["time of tasks p95, ms"], 6) == 460
    assert not [one for one in reader.selected if '"agent_response_seconds_bucket"' in one]
