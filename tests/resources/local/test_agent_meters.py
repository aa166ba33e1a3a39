"""What agents count: refused where it is wrong, shown where it is right."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.errors import InvalidInputError
from resources.local.agent_meters import (
    AgentFigures,
    AgentMeters,
    Work,
    parse_meters,
    render_agents,
)

WORK: dict[str, Any] = {"count": 3, "errors": 1, "total_s": 0.5, "durations": [1, 2] + [0] * 10}


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], "meters"),
        ({"task": WORK}, "meters.task"),
        ({"tasks": []}, "meters.tasks"),
        ({"tasks": WORK | {"extra": 1}}, "meters.tasks.extra"),
        ({"tasks": WORK | {"count": 4}}, "meters.tasks.count"),
        ({"tasks": WORK | {"errors": 4}}, "meters.tasks.count"),
        ({"tasks": WORK | {"count": True}}, "meters.tasks.count"),
        ({"tasks": WORK | {"count": -1}}, "meters.tasks.count"),
        ({"tasks": WORK | {"total_s": -0.1}}, "meters.tasks.total_s"),
        ({"tasks": WORK | {"total_s": "1"}}, "meters.tasks.total_s"),
        ({"tasks": WORK | {"durations": [1, 2]}}, "meters.tasks.durations"),
        ({"tasks": WORK | {"durations": [1.5, 1.5] + [0] * 10}}, "meters.tasks.durations"),
        ({"tools": WORK}, "meters.tools"),
        ({"tools": [WORK] * 40}, "meters.tools"),
        ({"tools": [WORK | {"framework": "mcp"}]}, "meters.tools[0].tool"),
        ({"tools": [WORK | {"framework": 'm"cp', "tool": "x"}]}, "meters.tools[0].framework"),
        ({"active_sessions": -1}, "meters.active_sessions"),
    ],
)
def test_wrong_meters_are_refused_by_the_path_of_what_is_wrong(value: object, field: str) -> None:
    """One error that names it; nothing of the report is kept."""
    with pytest.raises(InvalidInputError) as caught:
        parse_meters(value)
    assert caught.value.field == field


def _figures(agent_id: str, meters: AgentMeters, **others: Any) -> AgentFigures:
    given = {"cpu_s": 1.5, "cpu_percent": 25.0, "rss_bytes": 4096, "restarts": 2, "reported": {}}
    return AgentFigures(agent_id, "net", "watch", meters=meters, **(given | others))


def test_the_page_reads_back_as_prometheus_reads_it() -> None:
    """Families together, buckets as running totals, five labels on each series."""
    work = Work(3, 1, 0.5, (1, 2, *[0] * 9, 0))
    full = AgentMeters(work, work, {("mcp", "search"): work}, 7)
    page = render_agents(
        "node-1",
        "us-west-2",
        [
            _figures("a-1", full, reported={"queue": 5.0}),
            _figures("a-2", AgentMeters(), cpu_s=None, cpu_percent=None, rss_bytes=None),
        ],
    ).decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    samples = {
        (sample.name, sample.labels["agent"], sample.labels.get("le", "")): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["agent_tasks_total", "a-1", ""] == 3
    assert samples["agent_task_errors_total", "a-1", ""] == 1
    assert samples["agent_response_seconds_bucket", "a-1", "0.005"] == 1
    assert samples["agent_response_seconds_bucket", "a-1", "0.01"] == 3
    assert samples["agent_response_seconds_bucket", "a-1", "+Inf"] == 3
    assert samples["agent_response_seconds_sum", "a-1", ""] == 0.5
    assert samples["agent_tool_calls_total", "a-1", ""] == 3
    assert samples["agent_active_sessions", "a-1", ""] == 7
    assert samples["agent_cpu_usage_ratio", "a-1", ""] == 0.25
    assert samples["agent_reported_value", "a-1", ""] == 5
    assert [key for key in samples if key[1] == "a-2"] == [("agent_restarts_total", "a-2", "")]
    place = {"network": "net", "workload": "watch", "node": "node-1", "region": "us-west-2"}
    for family in families.values():
        assert family.documentation
        assert all(place.items() <= sample.labels.items() for sample in family.samples)
    assert page.count("# TYPE agent_response_seconds histogram") == 1


def test_a_page_without_agents_is_empty() -> None:
    """No agent, no series: never a series of zeros."""
    assert render_agents("node-1", "eu", []) == b""
