"""histogram_quantile of classic histograms: rows with an `le` label are the buckets of one.

Source: Prometheus, promql/quantile.go of v3.9.1 (and v2.42.0 where `Semantics` says so).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fleet.metrics.labels import METRIC_NAME
from fleet.promql.label_table import group_rows
from fleet.promql.semantics import Semantics
from fleet.promql.values import Scalar, Vector, empty_vector, merged

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

BOUND = "le"
SMALL_DELTA = 1e-12
"""Neighbouring buckets that differ by less than this part are the same but for rounding."""
TINIEST = 2.2250738585072014e-308
CELLS_AT_ONCE = 20_000_000
"""Cells (histograms x buckets x steps) computed at once: 160 MB an array."""


def histogram_quantile(q: Scalar, vector: Vector, semantics: Semantics) -> Vector:
    """The quantile of each histogram, interpolated within its bucket.

    Args:
        q: the quantile per step; below 0 and above 1 the answer is an infinity.
        vector: buckets; rows without a number in `le` are left out.
        semantics: of which version.

    Returns:
        One row per histogram, without `le` and name; NaN where a histogram has no observation, no
        bucket `+Inf`, or only that.
    """
    bounds = vector.labels.column(BOUND)
    numbers = np.array([_bound(text) for text in bounds.texts], np.float64)[bounds.codes]
    vector, numbers = vector.take(np.flatnonzero(~np.isnan(numbers))), numbers[~np.isnan(numbers)]
    steps = vector.values.shape[1]
    if not len(vector):
        return empty_vector(steps)
    # as in Prometheus, histograms are told apart by their name too, which the answer then loses
    names = [name for name in vector.labels.names() if name != BOUND]
    groups = group_rows([vector.labels.column(name) for name in names], len(vector))
    labels = vector.labels.take(groups.firsts).without([BOUND, METRIC_NAME])
    values, present = np.empty((groups.count, steps)), np.empty((groups.count, steps), np.bool_)
    distinct, places = np.unique(numbers, return_inverse=True)
    order = np.argsort(groups.codes, kind="stable")
    size = max(1, CELLS_AT_ONCE // (len(distinct) * steps))
    for first in range(0, groups.count, size):
        stop = min(first + size, groups.count)
        begin, end = np.searchsorted(groups.codes[order], [first, stop])
        rows = order[begin:end]
        cells = (groups.codes[rows] - first, places.reshape(-1)[rows])
        counts, there = _dense(vector, rows, cells, (stop - first, len(distinct)))
        values[first:stop] = _quantiles(q.values, distinct, counts, there, semantics)
        present[first:stop] = there.any(axis=1)
    return merged(Vector(labels, values, present)).compact()


def _bound(text: str) -> float:
    """The number of an `le` label; NaN for none."""
    try:
        return float(text.replace("_", "x"))
    except ValueError:
        return np.nan


def _dense(
    vector: Vector,
    rows: Int64Array,
    cells: tuple[Int64Array, Int64Array],
    shape: tuple[int, int],
) -> tuple[FloatArray, BoolArray]:
    """Counts as (histograms, buckets, steps); buckets written differently but equal are added."""
    steps = vector.values.shape[1]
    counts = np.zeros((*shape, steps))
    there = np.zeros((*shape, steps), np.bool_)
    np.add.at(counts, cells, np.where(vector.present[rows], vector.values[rows], 0.0))
    np.logical_or.at(there, cells, vector.present[rows])
    return counts, there


def _quantiles(
    q: FloatArray,
    bounds: FloatArray,
    counts: FloatArray,
    there: BoolArray,
    semantics: Semantics,
) -> FloatArray:
    """Quantile of each (histogram, step); a bucket that is not there is passed over."""
    rising = _monotonic(counts, there, semantics)
    last = len(bounds) - 1
    observations = rising[:, last]
    rank = q[None, :] * observations
    numbers = np.arange(len(bounds))[None, :, None]
    # for each bucket the nearest present one below it; -1 for none
    seen = np.maximum.accumulate(np.where(there, numbers, -1), axis=1)
    below = np.concatenate([np.full_like(seen[:, :1], -1), seen[:, :-1]], axis=1)
    reached = there & (rising >= rank[:, None, :])
    reached[:, last] = True
    bucket = np.argmax(reached, axis=1)
    under = np.take_along_axis(below, bucket[:, None], axis=1)[:, 0]
    end = bounds[bucket]
    start = np.where(under >= 0, bounds[under], 0.0)
    at = np.take_along_axis(rising, bucket[:, None], axis=1)[:, 0]
    before = np.take_along_axis(rising, np.maximum(under, 0)[:, None], axis=1)[:, 0]
    before = np.where(under >= 0, before, 0.0)
    found = start + (end - start) * ((rank - before) / (at - before))
    found = np.where((under < 0) & (end <= 0), end, found)
    found = np.where(bucket == last, bounds[under], found)
    complete = there[:, last] & np.isposinf(bounds[last]) & (there.sum(axis=1) > 1)
    found = np.where(complete & (observations != 0), found, np.nan)
    # these come before anything that the buckets could be wrong in
    found = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, found))
    return np.where(np.isnan(q), np.nan, found)


def _monotonic(counts: FloatArray, there: BoolArray, semantics: Semantics) -> FloatArray:
    """Counts that never fall from bucket to bucket, as those of a histogram cannot."""
    rising = np.empty_like(counts)
    previous = np.full(counts[:, 0].shape, -np.inf)
    for bucket in range(counts.shape[1]):
        now = np.where(there[:, bucket], counts[:, bucket], previous)
        up = now > previous
        if semantics.small_deltas_ignored:
            size = np.minimum(np.abs(now) + np.abs(previous), np.finfo(np.float64).max)
            difference = np.abs(now - previous)
            near = difference < SMALL_DELTA * np.where(
                (now == 0) | (previous == 0) | (size < TINIEST), TINIEST, size
            )
            up &= ~(near & np.isfinite(previous))
        rising[:, bucket] = previous = np.where(up, now, previous)
    return rising
