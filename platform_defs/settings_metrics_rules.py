"""Rules between the settings of metrics."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from platform_defs.settings_metrics import MetricSettings
from platform_defs.settings_rules import Violation, bucket_violations


def metric_violations(metrics: MetricSettings | None) -> Iterator[Violation]:
    """Finer data never outlive coarser ones, which could not be made anew otherwise."""
    if metrics is None:
        return
    names = ("keep_raw_days", "keep_1m_days", "keep_5m_days", "keep_1h_days", "keep_1d_days")
    for finer, coarser in pairwise(names):
        kept, needed = getattr(metrics, coarser), getattr(metrics, finer)
        if kept < needed:
            yield Violation(
                ("metrics", coarser), f"{kept} is less than {finer} ({needed}); keep it as long"
            )
    yield from bucket_violations(("metrics",), metrics)
