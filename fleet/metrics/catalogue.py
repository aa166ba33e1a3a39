"""Every metric that Stateroom exports or its rules use: the one list behind exporters and docs.

`docs/metrics.md` prints it, rules and dashboards may use nothing else, exporters register exactly
it; tests compare. Cardinality is a promise: what a label may hold at most is said beside it.
"""

from __future__ import annotations

from fleet.metrics.catalogue_agents import agents, nodes
from fleet.metrics.catalogue_gpus import gpus
from fleet.metrics.catalogue_platform import backups, fleet, metrics, vectors
from fleet.metrics.metric_spec import Metric

METRICS: tuple[Metric, ...] = tuple(
    metric
    for family in (agents, nodes, fleet, backups, metrics, vectors, gpus)
    for metric in family()
)
"""Every metric, family by family."""

BY_SERIES: dict[str, Metric] = {name: metric for metric in METRICS for name in metric.series}
"""Metric by the name of a series of it."""


def catalogue_table() -> str:
    """The table of `docs/metrics.md`."""
    lines = [
        "| metric | type | unit | labels | series at most | exported by | what it says |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in METRICS:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        cells = (
            f"`{one.name}`",
            one.type.value,
            one.unit,
            labels,
            one.bound,
            one.exporter,
            one.help,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
