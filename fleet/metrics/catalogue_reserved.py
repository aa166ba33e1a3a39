"""Metrics that rules and objectives already use, of processes that are not part of a node.

Rules write theirs themselves. The others belong to the collector and to the indexes; whoever
exports them registers exactly these.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.metrics.metric_spec import COUNTER, GAUGE, Metric

_RULES, _COLLECTOR, _INDEX = "rules", "collector", "index publisher"


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
    """What the collector and the indexes export."""
    for name, kind, unit, labels, bound, who, text in (
        (
            "stateroom_rollup_lag_seconds",
            GAUGE,
            "seconds",
            ("level",),
            "4",
            _COLLECTOR,
            "Since the end of the newest bucket that a level has.",
        ),
        (
            "stateroom_rollup_dirty_partitions",
            GAUGE,
            "",
            ("level",),
            "4",
            _COLLECTOR,
            "Partitions that must be computed again because samples came late.",
        ),
        (
            "stateroom_late_samples_total",
            COUNTER,
            "",
            ("level",),
            "4",
            _COLLECTOR,
            "Samples that came after their bucket was built.",
        ),
        (
            "stateroom_rule_evaluation_failures_total",
            COUNTER,
            "",
            ("rule_group",),
            "groups of rules",
            _COLLECTOR,
            "Rules that could not be evaluated.",
        ),
        (
            "stateroom_rule_evaluation_seconds",
            GAUGE,
            "seconds",
            ("rule_group",),
            "groups of rules",
            _COLLECTOR,
            "How long the last evaluation of a group took.",
        ),
        (
            "stateroom_alert_delivery_failures_total",
            COUNTER,
            "",
            (),
            "1",
            _COLLECTOR,
            "Ticks in which alerts were not passed on.",
        ),
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
