"""The mergeable record: what a bucket keeps of its samples, so that answers stay exact.

From two records of neighbouring buckets comes that of both, whatever was between: counters know
their resets, sums carry what rounding lost, and first and last values find the steps across the
border. Nothing here averages averages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class RollupColumns:
    """Records in columns of one length, ordered by (series_ids, ends_ms), one per pair.

    A bucket without a sample has no row. Stale markers are no samples; NaN values are.

    Attributes:
        series_ids: int64.
        ends_ms: int64, the end of the bucket, milliseconds since 1970 UTC.
        n: int64, samples, at least 1.
        expected: float64, samples that the series' interval lets expect; NaN where unknown.
            Coverage is n / expected.
        total, total_low: float64, sum of the values as a Neumaier pair: total + total_low.
        minimum, maximum: float64, NaN only where every value is.
        first_ms, last_ms: int64, times of the first and last sample.
        first, last: float64, their values.
        reset_sum: float64, sum of the values right before each reset (value lower than before).
        resets_whole: bool, whether every value in that sum is a whole number; True without one.
            Whole numbers are added without rounding, so their order does not matter.
        resets, changes: int64, how often the value fell, and how often it was another.
        mean, m2: float64, Welford's mean and sum of squared differences from it.
    """

    series_ids: Int64Array
    ends_ms: Int64Array
    n: Int64Array
    expected: FloatArray
    total: FloatArray
    total_low: FloatArray
    minimum: FloatArray
    maximum: FloatArray
    first_ms: Int64Array
    first: FloatArray
    last_ms: Int64Array
    last: FloatArray
    reset_sum: FloatArray
    resets_whole: BoolArray
    resets: Int64Array
    changes: Int64Array
    mean: FloatArray
    m2: FloatArray

    def __len__(self) -> int:
        """Number of records."""
        return len(self.ends_ms)
