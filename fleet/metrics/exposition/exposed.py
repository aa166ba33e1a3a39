"""What one body exposes, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array, SeriesInfo

NO_TIMESTAMP = -(2**63)
"""In `Exposition.ts_ms`: the line has none, the sample is of the moment of the scrape."""


@dataclass(frozen=True, slots=True, eq=False)
class Exposition:
    """The samples of one body, in its order.

    Of several samples of one series at one time the first counts, as in Prometheus' head block.

    Attributes:
        series_ids: int64; the same array as before when a target says the same series again.
        values: float64; every NaN has the bits of `NORMAL_NAN_BITS`.
        ts_ms: int64, NO_TIMESTAMP for a line without one; None where no line has one.
        series: what is known of every identity in `series_ids`, and maybe of more.
        created_ids, created_ms: series that count since a known time; the same arrays as before
            while nothing changed. Quantiles of summaries count nothing and are not among them.
        lines: samples as the body has them, with those that were repeated.
        exemplars: exemplars that were read and dropped.
    """

    series_ids: Int64Array
    values: FloatArray
    ts_ms: Int64Array | None
    series: Mapping[int, SeriesInfo]
    created_ids: Int64Array
    created_ms: Int64Array
    lines: int
    exemplars: int

    @property
    def repeated(self) -> int:
        """Samples that were left out, because their series and time stood in the body before."""
        return self.lines - len(self.series_ids)


def first_of_each(ids: Int64Array, ts_ms: Int64Array | None) -> BoolArray | None:
    """Which samples are the first of their series and time; None: all."""
    import numpy as np

    if ts_ms is None:
        _, first = np.unique(ids, return_index=True)
    else:
        order = np.lexsort((np.arange(len(ids)), ts_ms, ids))
        new = (np.diff(ids[order]) != 0) | (np.diff(ts_ms[order]) != 0)
        first = order[np.concatenate((np.ones(min(1, len(ids)), np.bool_), new))]
    if len(first) == len(ids):
        return None
    kept = np.zeros(len(ids), np.bool_)
    kept[first] = True
    return kept
