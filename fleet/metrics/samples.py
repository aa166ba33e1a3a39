"""Samples as they come from a source: columns of series, time and value.

A stale marker is a sample whose value has exactly the bits of `STALE_BITS`: it says that the series
ended, and is no value. Compare by bits; `isnan` cannot tell it from an ordinary NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from fleet.metrics.labels import Labels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fleet.metrics.histogram_columns import HistogramSamples

    Int64Array = npt.NDArray[np.int64]
    FloatArray = npt.NDArray[np.float64]
    BoolArray = npt.NDArray[np.bool_]

STALE_BITS = 0x7FF0000000000002
"""Bits of a stale marker. Source: Prometheus, model/value/value.go (`StaleNaN`)."""


class MetricType(StrEnum):
    """What a metric's values mean, as OpenMetrics names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    """Also each `_bucket`, `_sum` and `_count` series of one: they are counters."""
    SUMMARY = "summary"
    UNKNOWN = "unknown"


class SeriesInfo(NamedTuple):
    """What is known of a series beside its samples."""

    labels: Labels
    type: MetricType = MetricType.UNKNOWN
    """Of its family."""
    unit: str = ""
    help: str = ""
    interval_ms: int | None = None
    """Time between two samples as the source means it; None where it cannot know. Coverage is
    measured against it."""
    sketched: bool = False
    """Whether its rollups also hold a 1 % sketch for quantiles."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleBatch:
    """Samples in columns of one length, in any order, duplicates allowed.

    Attributes:
        series: identity (`labels.series_id`) to what is known, for every identity in `series_ids`
            that whoever gets the batch does not know.
        series_ids: int64, the series of each sample.
        ts_ms: int64, milliseconds since 1970 UTC.
        values: float64; stale markers by their bits.
        histograms: samples that are native histograms, in any order, duplicates allowed; None for
            none. Their series are explained in `series`, too.
    """

    series_ids: Int64Array
    ts_ms: Int64Array
    values: FloatArray
    series: Mapping[int, SeriesInfo] = field(default_factory=dict)
    histograms: HistogramSamples | None = None

    def __len__(self) -> int:
        """Number of samples, histograms among them."""
        return len(self.ts_ms) + (0 if self.histograms is None else len(self.histograms))


def distinct(ids: Int64Array) -> Int64Array:
    """Each identity once, ascending.

    By sorting: `numpy.unique` looks up each in a hash table from 2.3 on, which takes 15 times as
    long where most are different (53 and 770 ms for a million, numpy 2.4.6).
    """
    import numpy as np

    if bool(np.all(ids[1:] > ids[:-1])):
        return ids
    ordered = np.sort(ids)
    is_first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return ordered[is_first]


def stale_marker() -> float:
    """The value of a stale marker."""
    import numpy as np

    return float(np.array([STALE_BITS], dtype=np.uint64).view(np.float64)[0])


def is_stale(values: FloatArray) -> BoolArray:
    """Which values are stale markers, by their bits."""
    import numpy as np

    bits: BoolArray = values.view(np.uint64) == np.uint64(STALE_BITS)
    return bits


def empty_batch() -> SampleBatch:
    """A batch without samples."""
    import numpy as np

    return SampleBatch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
