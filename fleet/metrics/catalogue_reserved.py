"""Metrics that rules and objectives already use, of processes that are not part of a node.

Rules write theirs themselves. The others belong to the indexes; whoever exports them registers
exactly these.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.metrics.metric_spec import GAUGE, Metric

_RULES, _INDEX = "rules", "index publisher"


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


def reserved() -> Iterator[Metric]:
    """What indexes export once there are any."""
    for name, kind, unit, labels, bound, who, text in (
        (
            "stateroom_index_age_seconds",
            GAUGE,
            "seconds",
            ("index",),
            "indexes",
            _INDEX,
            "Since the newest generation of an index was published.",
        ),
        (
            "stateroom_index_max_age_seconds",
            GAUGE,
            "seconds",
            ("index",),
            "indexes",
            _INDEX,
            "Age from which an index counts as stale.",
        ),
        (
            "stateroom_index_recall_ratio",
            GAUGE,
            "ratio",
            ("index",),
            "indexes",
            _INDEX,
            "Recall at 10, measured against exact search when it was published.",
        ),
        (
            "stateroom_index_recall_floor_ratio",
            GAUGE,
            "ratio",
            ("index",),
            "indexes",
            _INDEX,
            "Recall below which an index may not serve.",
        ),
    ):
        yield Metric(name, kind, unit, labels, bound, who, text)
