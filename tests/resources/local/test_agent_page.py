"""The page of a node's agents, as Prometheus reads it."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from fleet.metrics.catalogue import BY_SERIES
from resources.local.agent_meters import AgentMeters, Work
from resources.local.agent_page import AgentFigures, render_agents
from resources.local.work_totals import WorkloadKey, WorkTotals

WORK = Work(3, 1, 0.5, (1, 2, *[0] * 14))
FULL = AgentMeters(WORK, WORK, {("mcp", "search"): WORK}, 7)


def _figures(agent_id: str, meters: AgentMeters, **others: Any) -> AgentFigures:
    given = {"cpu_s": 1.5, "cpu_percent": 25.0, "rss_bytes": 4096, "reported": {}}
    return AgentFigures(agent_id, "net", "watch", restarts=2, meters=meters, **(given | others))


def _page() -> str:
    totals = WorkTotals()
    totals.add(WorkloadKey("net", "watch"), AgentMeters(), FULL)
    agents = [
        _figures("a-1", FULL, reported={"queue": 5.0}),
        _figures("a-2", AgentMeters(), cpu_s=None, cpu_percent=None, rss_bytes=None),
    ]
    return render_agents("node-1", "us-west-2", agents, totals).decode()


def test_each_line_reads_back_with_the_value_that_was_meant() -> None:
    """Single agents under their name; latencies, requests and tools added up."""
    found = {
        (sample.name, sample.labels.get("agent"), sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(_page())
        for sample in family.samples
    }
    assert found["agent_tasks_total", "a-1", None] == 3
    assert found["agent_task_errors_total", "a-1", None] == 1
    assert found["agent_cpu_usage_ratio", "a-1", None] == 0.25
    assert found["agent_memory_usage_bytes", "a-1", None] == 4096
    assert found["agent_active_sessions", "a-1", None] == 7
    assert found["agent_reported_value", "a-1", None] == 5
    assert found["agent_response_seconds_bucket", None, "0.005"] == 1
    assert found["agent_response_seconds_bucket", None, "0.01"] == 3
    assert found["agent_response_seconds_bucket", None, "+Inf"] == 3
    assert found["agent_response_seconds_sum", None, None] == 0.5
    assert found["agent_requests_total", None, None] == 3
    assert found["agent_request_errors_total", None, None] == 1
    assert found["agent_tool_calls_total", None, None] == 3
    assert [key[0] for key in found if key[1] == "a-2"] == ["agent_restarts_total"]


def test_every_line_is_of_the_catalogue_with_its_labels() -> None:
    """A metric that nobody declared has no alert, no dashboard and no bound."""
    for family in text_string_to_metric_families(_page()):
        for sample in family.samples:
            labels = sorted(sample.labels.keys() - {"le"})
            assert labels == sorted(BY_SERIES[sample.name].labels), sample.name


def test_a_page_without_agents_is_empty() -> None:
    """No agent, no series: never a series of zeros."""
    assert render_agents("node-1", "eu", [], WorkTotals()) == b""
