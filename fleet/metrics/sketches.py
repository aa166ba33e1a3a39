"""Sketches: counts of values in bins of 1 %, from which any quantile is read within 1 %.

Merging adds counts bin by bin: exact, and in any order, so recomputing gives equal bytes (a
t-digest would depend on the order of samples).

Source: C. Masson et al., "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees", VLDB 2019, with the bound alpha = 0.01 and no limit on bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fleet.errors import InvalidInputError
from fleet.metrics.levels import bucket_ends_ms

if TYPE_CHECKING:
    import numpy.typing as npt

    from fleet.metrics.samples import FloatArray, Int64Array

    Int32Array = npt.NDArray[np.int32]

ACCURACY = 0.01
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = float(np.log(_GAMMA))
BIN_OFFSET = 40_000
"""Bin of values in (1/g, 1]; every finite double lies within 36,000 bins of it."""
INFINITY_BIN = 1 << 30
BINS_AT_ONCE = 4_000_000
"""Bins of overlapping runs that are laid out at once."""


@dataclass(frozen=True, slots=True, eq=False)
class SketchColumns:
    """Sketches ordered by (series_ids, ends_ms), one per pair that has a value.

    Attributes:
        series_ids, ends_ms: int64, as in `RollupColumns`.
        offsets: int64, one longer: the bins of sketch i are offsets[i] up to offsets[i + 1].
        bins: int32, ascending within a sketch, which is by value.
        counts: int64, values in each bin, at least 1.
    """

    series_ids: Int64Array
    ends_ms: Int64Array
    offsets: Int64Array
    bins: Int32Array
    counts: Int64Array

    def __len__(self) -> int:
        """Number of sketches."""
        return len(self.ends_ms)


def bins_of(values: FloatArray) -> Int32Array:
    """Bin of each value; NaN has none and must not be among them."""
    size = np.abs(values)
    bins = np.zeros(len(values), np.int32)
    finite = (size > 0) & np.isfinite(size)
    bins[finite] = BIN_OFFSET + np.ceil(np.log(size[finite]) / _LOG_GAMMA).astype(np.int32)
    bins[np.isinf(size)] = INFINITY_BIN
    return np.where(np.signbit(values), -bins, bins)


def bin_values(bins: Int32Array) -> FloatArray:
    """The value that stands for each bin, within 1 % of all values in it."""
    index = np.abs(bins).astype(np.float64) - BIN_OFFSET
    with np.errstate(over="ignore"):
        size = np.exp(index * _LOG_GAMMA + np.log(2 / (_GAMMA + 1)))
    size = np.minimum(size, np.finfo(np.float64).max)  # the topmost bin reaches beyond it
    size[bins == 0] = 0.0
    size[np.abs(bins) == INFINITY_BIN] = np.inf
    values: FloatArray = np.where(bins < 0, -size, size)
    return values


def sketch(
    series_ids: Int64Array, ts_ms: Int64Array, values: FloatArray, length_ms: int
) -> SketchColumns:
    """One sketch for each series and bucket; NaN (and so stale markers) are left out.

    Args:
        series_ids: in any order.
        ts_ms: as long.
        values: as long.
        length_ms: of the buckets.
    """
    kept = ~np.isnan(values)
    ends = bucket_ends_ms(ts_ms[kept], length_ms)
    bins = bins_of(values[kept])
    return _collected(series_ids[kept], ends, bins, np.ones(len(bins), np.int64))


def merge_sketches(sketches: SketchColumns, length_ms: int) -> SketchColumns:
    """Sketches of longer buckets; the same as from the samples themselves.

    Args:
        sketches: in any order, also several of one series and bucket.
        length_ms: of the new buckets, a multiple of theirs.
    """
    sizes = np.diff(sketches.offsets)
    ids = np.repeat(sketches.series_ids, sizes)
    ends = np.repeat(bucket_ends_ms(sketches.ends_ms, length_ms), sizes)
    return _collected(ids, ends, sketches.bins, sketches.counts)


def concat_sketches(parts: list[SketchColumns]) -> SketchColumns:
    """Several columns of sketches one after another."""
    if not parts:
        none = np.empty(0, np.int64)
        return _collected(none, none, none.astype(np.int32), none)
    sizes = np.concatenate([np.diff(one.offsets) for one in parts])
    return SketchColumns(
        np.concatenate([one.series_ids for one in parts]),
        np.concatenate([one.ends_ms for one in parts]),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([one.bins for one in parts]),
        np.concatenate([one.counts for one in parts]),
    )


def quantile(bins: Int32Array, counts: Int64Array, q: float) -> float:
    """The q-quantile of one sketch; as Prometheus, interpolated between the ranks beside it.

    Args:
        bins: ascending.
        counts: of each bin; no bin at all gives NaN.
        q: between 0 and 1.

    Raises:
        InvalidInputError: q is outside.
    """
    if not 0 <= q <= 1:
        raise InvalidInputError("q", q, "a number from 0 to 1")
    if not len(bins):
        return float("nan")
    upto = np.cumsum(counts)
    rank = q * (float(upto[-1]) - 1)
    beside = np.searchsorted(upto, [np.floor(rank), np.ceil(rank)], side="right")
    lower, upper = bin_values(bins[beside])
    weight = rank - np.floor(rank)
    if lower == upper:
        return float(lower)
    return float(lower * (1 - weight) + upper * weight)


def quantiles_of_runs(
    sketches: SketchColumns, low: Int64Array, high: Int64Array, q: FloatArray
) -> FloatArray:
    """The quantile of each run of neighbouring sketches of one series, as if made of their samples.

    Args:
        sketches: of any number of series.
        low: the first sketch of each run, ascending.
        high: the one behind its last; no run is empty.
        q: one for each run; beyond 0 and 1 the answer is infinite.
    """
    found = np.empty(len(low))
    bins = sketches.offsets[high] - sketches.offsets[low]
    done, begin = np.cumsum(bins), 0
    while begin < len(low):
        before = done[begin - 1] if begin else 0
        stop = max(int(np.searchsorted(done, before + BINS_AT_ONCE, "right")), begin + 1)
        part = slice(begin, stop)
        found[part] = _quantiles_of_runs(sketches, low[part], bins[part], q[part])
        begin = stop
    return found


def _quantiles_of_runs(
    sketches: SketchColumns, low: Int64Array, sizes: Int64Array, q: FloatArray
) -> FloatArray:
    # the bins of neighbouring sketches are neighbours
    runs = np.repeat(np.arange(len(low)), sizes)
    at = np.arange(len(runs)) + np.repeat(sketches.offsets[low] - (np.cumsum(sizes) - sizes), sizes)
    order = np.lexsort((sketches.bins[at], runs))
    bins, runs = sketches.bins[at][order], runs[order]
    upto = np.cumsum(sketches.counts[at][order])
    ends = upto[np.searchsorted(runs, np.arange(len(low)), "right") - 1]
    starts = np.concatenate([[0], ends[:-1]])
    known = np.where(np.isnan(q), 0.0, np.clip(q, 0, 1))
    rank = known * (ends - starts - 1.0)
    whole = np.floor(rank)
    lower, upper = (
        bin_values(bins[np.searchsorted(upto, starts + beside.astype(np.int64), "right")])
        for beside in (whole, np.ceil(rank))
    )
    weight = rank - whole
    with np.errstate(invalid="ignore"):
        between = lower * (1 - weight) + upper * weight
    values = np.where(lower == upper, lower, between)
    values = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, values))
    return np.where(np.isnan(q), np.nan, values)


def _collected(
    ids: Int64Array, ends: Int64Array, bins: Int32Array, counts: Int64Array
) -> SketchColumns:
    """Add counts of equal (series, end, bin) and order by them."""
    order = np.lexsort((bins, ends, ids))
    ids, ends, bins, counts = ids[order], ends[order], bins[order], counts[order]
    is_row = np.ones(len(ids), np.bool_)
    is_row[1:] = (ids[1:] != ids[:-1]) | (ends[1:] != ends[:-1])
    is_bin = is_row.copy()
    is_bin[1:] |= bins[1:] != bins[:-1]
    at = np.flatnonzero(is_bin)
    rows = np.flatnonzero(is_row)
    return SketchColumns(
        ids[rows],
        ends[rows],
        np.append(np.searchsorted(at, rows), len(at)).astype(np.int64),
        bins[at].astype(np.int32),
        np.add.reduceat(counts, at) if len(at) else np.empty(0, np.int64),
    )
