"""What answers of a Prometheus server are read with: identities, problems, metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fleet.metrics.exposition.families import HELP_MAX_CHARS, Family
from fleet.metrics.histogram_columns import HistogramSamples, take_samples
from fleet.metrics.samples import MetricType

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array

PROBLEMS_MAX = 20
"""Of one piece that are spelt out."""
_TYPES = {
    "counter": MetricType.COUNTER,
    "gauge": MetricType.GAUGE,
    "histogram": MetricType.HISTOGRAM,
    "gaugehistogram": MetricType.GAUGE,
    "summary": MetricType.SUMMARY,
    "info": MetricType.GAUGE,
    "stateset": MetricType.GAUGE,
}


def identified(samples: HistogramSamples, ids: Int64Array) -> HistogramSamples | None:
    """Histograms under the identities of their series, by series and time; None for none."""
    import numpy as np

    if not len(samples):
        return None
    found = HistogramSamples(ids[samples.series_ids], samples.ts_ms, samples.histograms)
    order = np.lexsort((found.ts_ms, found.series_ids))
    return take_samples(found, order[found.series_ids[order] >= 0])


class Problems:
    """Counts what was left out of a piece, and keeps the first sentences."""

    def __init__(self) -> None:
        """Nothing is left out yet."""
        self._kept: list[str] = []
        self._count = 0

    def add(self, sentence: str) -> None:
        """Note one."""
        self._count += 1
        if len(self._kept) < PROBLEMS_MAX:
            self._kept.append(sentence)

    def sentences(self, custom: int) -> tuple[str, ...]:
        """All problems; `custom` histograms have bounds of their own."""
        found = list(self._kept)
        if self._count > len(found):
            found.append(f"... and {self._count - len(found)} more series left out")
        if custom:
            found.append(f"{custom} native histograms with custom bounds left out")
        return tuple(found)


def family(row: Mapping[str, Any]) -> Family:
    """What metadata say of a metric."""
    word = str(row.get("type", ""))
    kind = _TYPES.get(word, MetricType.UNKNOWN)
    return Family(word, kind, str(row.get("unit", "")), str(row.get("help", ""))[:HELP_MAX_CHARS])
