"""What is known of a metric: one line of the catalogue."""

from __future__ import annotations

from typing import NamedTuple

from fleet.metrics.samples import MetricType

COUNTER, GAUGE, HISTOGRAM = MetricType.COUNTER, MetricType.GAUGE, MetricType.HISTOGRAM


class Metric(NamedTuple):
    """One metric."""

    name: str
    """As queries write it; of a histogram without `_bucket`, `_sum` and `_count`."""
    type: MetricType
    unit: str
    """In words; '' for a count."""
    labels: tuple[str, ...]
    """Its own, sorted; a scrape adds `job` and `instance`."""
    bound: str
    """How many series there can be."""
    exporter: str
    """Which process exports it."""
    help: str

    @property
    def series(self) -> tuple[str, ...]:
        """Names under which its samples are stored."""
        if self.type is HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)
