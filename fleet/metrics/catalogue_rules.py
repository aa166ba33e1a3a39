"""Metrics that rules and objectives write themselves, whoever evaluates them."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.metrics.metric_spec import GAUGE, Metric

_RULES = "rules"


def rules() -> Iterator[Metric]:
    """Series that the evaluation of rules leaves behind."""
    workload = ("le", "network", "region", "workload")
    buckets = "16 x workloads x regions"
    for name, unit, labels, bound, text in (
        ("ALERTS", "", ("alertname", "alertstate"), "alerts", "1 while an alert is in a state."),
        ("ALERTS_FOR_STATE", "seconds", ("alertname",), "alerts", "Since when it is, from 1970."),
        (
            "objective:error_ratio",
            "ratio",
            ("objective", "window"),
            "objectives x 6 windows",
            "Bad of all within a window; absent where nothing was measured.",
        ),
        (
            "workload:agent_response_seconds_bucket:rate5m",
            "",
            workload,
            buckets,
            "Tasks per second up to each bound, of all nodes.",
        ),
        (
            "workload:agent_request_duration_seconds_bucket:rate5m",
            "",
            workload,
            buckets,
            "Requests per second up to each bound, of all nodes.",
        ),
    ):
        yield Metric(name, GAUGE, unit, labels, bound, _RULES, text)
