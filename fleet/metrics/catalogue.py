"""Every metric that Stateroom exports or its rules use: the one list behind rules and docs.

`docs/metrics.md` prints it; rules, dashboards and objectives may use nothing else. Families of the
exporter come from its own table, those of nodes are compared with what a node really exports.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.metrics.catalogue_agents import agents, nodes
from fleet.metrics.catalogue_rules import rules
from fleet.metrics.exported.readings import ExportedFamily
from fleet.metrics.exported.table import FAMILIES
from fleet.metrics.metric_spec import Metric
from fleet.metrics.samples import MetricType

_TYPES = {"gauge": MetricType.GAUGE, "counter": MetricType.COUNTER}
_UNITS = ("seconds", "bytes", "ratio")
_EXPORTER = "exporter"


def _of_family(family: ExportedFamily) -> Metric:
    named = family.name.removesuffix("_total")
    unit = next((unit for unit in _UNITS if named.endswith(f"_{unit}")), "")
    kind = _TYPES.get(family.type, MetricType.UNKNOWN)
    labels = tuple(sorted(family.labels))
    return Metric(family.name, kind, unit, labels, family.bound, _EXPORTER, family.help)


def _all() -> Iterator[Metric]:
    yield from agents()
    yield from nodes()
    yield from map(_of_family, FAMILIES)
    yield from rules()


METRICS: tuple[Metric, ...] = tuple(_all())
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
