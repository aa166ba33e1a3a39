"""Metrics that rules and objectives write themselves, whoever evaluates them."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.metrics.metric_spec import GAUGE, Metric

_RULES = "rules"


def rules() -> Iterator[Metric]:
    """Series that the evaluation of rules leaves behind."""
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
    ):
        yield Metric(name, GAUGE, unit, labels, bound, _RULES, text)
