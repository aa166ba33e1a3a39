"""Functions of native histograms: quantile, fraction, count, sum and average of each.

Source: Prometheus, promql/quantile.go (`HistogramQuantile`, `HistogramFraction`) of v3.9.1, and
v2.42.0 where `Semantics` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.metrics.histogram_columns import Histograms, bucket_bounds
from fleet.promql.semantics import Semantics

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array


class _Buckets(NamedTuple):
    """Populated buckets of all histograms, zero buckets among them, by (histogram, value)."""

    rows: Int64Array
    counts: FloatArray
    low: FloatArray
    high: FloatArray
    linear: BoolArray
    """Whether values are taken as evenly spread within the bucket, not in their logarithm."""
    starts: Int64Array
    """Of each histogram its first bucket ..."""
    sizes: Int64Array
    """... and how many there are."""


def _buckets(found: Histograms, semantics: Semantics) -> _Buckets:
    low, high = bucket_bounds(found)
    zeros = np.flatnonzero(found.zero_counts > 0)
    width = found.zero_thresholds[zeros]
    rows = np.concatenate([found.rows(), zeros])
    keys = np.concatenate([found.keys, np.zeros(len(zeros), np.int64)])
    one_sided = _sides(found)
    low = np.concatenate([low, np.where(one_sided[zeros] > 0, 0.0, -width)])
    high = np.concatenate([high, np.where(one_sided[zeros] < 0, 0.0, width)])
    counts = np.concatenate([found.counts, found.zero_counts[zeros]])
    order = np.lexsort((keys, rows))
    sizes = np.bincount(rows, minlength=len(found))
    linear = (keys == 0) | semantics.histograms_linear
    return _Buckets(
        rows[order], counts[order], low[order], high[order], linear[order],
        np.cumsum(sizes) - sizes, sizes,
    )  # fmt: skip


def _sides(found: Histograms) -> Int64Array:
    """1 for histograms of positive values only, -1 of negative ones only, else 0.

    Their zero bucket then begins, or ends, at 0.
    """
    rows = found.rows()
    positive = np.bincount(rows[found.keys > 0], minlength=len(found)) > 0
    negative = np.bincount(rows[found.keys < 0], minlength=len(found)) > 0
    sides: Int64Array = positive.astype(np.int64) - negative.astype(np.int64)
    return sides


def quantiles(found: Histograms, q: FloatArray, semantics: Semantics) -> FloatArray:
    """The quantile of each histogram; infinite for q beyond 0 and 1, NaN without observations.

    Args:
        found: histograms.
        q: one for each.
        semantics: of which version.
    """
    buckets = _buckets(found, semantics)
    total = found.observations
    upwards = (q < 0.5) | np.isnan(found.totals) | semantics.histograms_linear
    rank = np.where(upwards, q, 1 - q) * total
    place, reached = _walked(buckets, rank, upwards)
    if not len(buckets.counts):
        values = np.full(len(found), np.nan)
    else:
        inside = buckets.counts[place]
        reached = np.minimum(reached, total)
        rest = np.where(upwards, rank - (reached - inside), reached - rank)
        values = _between(buckets, place, rest / inside)
        values = np.where(reached < rank, buckets.high[place], values)
    values = np.where((total == 0) | (buckets.sizes == 0), np.nan, values)
    values = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, values))
    return np.where(np.isnan(q), np.nan, values)


def _walked(
    buckets: _Buckets, rank: FloatArray, upwards: BoolArray
) -> tuple[Int64Array, FloatArray]:
    """The bucket of each histogram in which a rank is reached, and the count up to and with it.

    All histograms go on by one bucket at a time, and add in the order in which Prometheus does.
    """
    step = np.where(upwards, 1, -1)
    place = np.where(upwards, buckets.starts, buckets.starts + buckets.sizes - 1)
    reached = np.zeros(len(rank))
    going = np.flatnonzero(buckets.sizes > 0)
    gone = 0
    while len(going):
        place[going] += step[going] * (gone > 0)
        reached[going] += buckets.counts[place[going]]
        gone += 1
        going = going[(reached[going] < rank[going]) & (buckets.sizes[going] > gone)]
    return np.maximum(place, 0), reached


def _between(buckets: _Buckets, place: Int64Array, share: FloatArray) -> FloatArray:
    """The value at a share of a bucket."""
    low, high, linear = buckets.low[place], buckets.high[place], buckets.linear[place]
    near, far = np.log2(np.abs(low)), np.log2(np.abs(high))
    positive = np.exp2(near + (far - near) * share)
    negative = -np.exp2(far + (near - far) * (1 - share))
    curved = np.where(low > 0, positive, negative)
    return np.where(linear, low + (high - low) * share, curved)


def fractions(
    found: Histograms, lower: FloatArray, upper: FloatArray, semantics: Semantics
) -> FloatArray:
    """Share of the observations of each histogram that lie between two values."""
    buckets = _buckets(found, semantics)
    total = found.observations
    below = [np.minimum(_ranks(buckets, bound, len(found)), total) for bound in (lower, upper)]
    values = np.where(lower >= upper, 0.0, (below[1] - below[0]) / total)
    return np.where((total == 0) | np.isnan(lower) | np.isnan(upper), np.nan, values)


def _ranks(buckets: _Buckets, bound: FloatArray, count: int) -> FloatArray:
    """Observations of each histogram below a value, as far as its buckets say."""
    at, low, high = bound[buckets.rows], buckets.low, buckets.high
    near, far, here = np.log2(np.abs(low)), np.log2(np.abs(high)), np.log2(np.abs(at))
    curved = np.where(low > 0, (here - near) / (far - near), 1 - (here - far) / (near - far))
    share = np.where(buckets.linear, (at - low) / (high - low), curved)
    share = np.where(at <= low, 0.0, np.where(at >= high, 1.0, share))
    ranks = np.bincount(buckets.rows, buckets.counts * share, count)
    return np.where(np.isposinf(bound), np.inf, ranks)


OF_HISTOGRAM: dict[str, Callable[[Histograms], FloatArray]] = {
    "histogram_count": lambda found: found.observations,
    "histogram_sum": lambda found: found.totals,
    "histogram_avg": lambda found: found.totals / found.observations,
}
"""Functions of a histogram alone."""
