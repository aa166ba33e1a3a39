"""From samples to records, and from records to those of longer buckets.

Everything works on whole columns: boundaries are found once, then each column is reduced between
them. Sums keep what rounding loses (Neumaier), so adding up records of records loses nothing that
adding up the samples would have kept. Equal input gives equal bits.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.metrics.levels import bucket_ends_ms
from fleet.metrics.record import RollupColumns
from fleet.metrics.samples import is_stale

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

_EXACT_MAX = 2.0**53
"""Whole numbers up to here are added without rounding."""
_BLOCK = 65_536
"""Samples that are worked on at a time: their columns and what comes of them stay in the cache."""
_FEW = 16
"""So few long runs are added up value by value: a step over columns would cost more."""


class Intervals(NamedTuple):
    """Time between two samples of each series, as its source means it."""

    ids: Int64Array
    """Ascending."""
    interval_ms: FloatArray
    """As long as `ids`; NaN where unknown."""


NO_INTERVALS = Intervals(np.empty(0, np.int64), np.empty(0, np.float64))


def roll_up(
    series_ids: Int64Array,
    ts_ms: Int64Array,
    values: FloatArray,
    length_ms: int,
    intervals: Intervals = NO_INTERVALS,
) -> RollupColumns:
    """One record for each series and bucket that has a sample.

    Args:
        series_ids: ascending.
        ts_ms: ascending within a series, none twice.
        values: stale markers among them are left out: they are no samples.
        length_ms: of the buckets, (start, end] and aligned to 1970.
        intervals: what `expected` comes from; NaN for series that are not in it.
    """
    stale = is_stale(values)
    if stale.any():
        kept = ~stale
        series_ids, ts_ms, values = series_ids[kept], ts_ms[kept], values[kept]
    cuts = _block_cuts(series_ids, ts_ms, length_ms)
    blocks = [
        _roll_up_block(series_ids[a:b], ts_ms[a:b], values[a:b], length_ms, intervals)
        for a, b in pairwise(cuts)
    ]
    if len(blocks) == 1:
        return blocks[0]
    names = RollupColumns.__dataclass_fields__
    return RollupColumns(
        *(np.concatenate([getattr(one, name) for one in blocks]) for name in names)
    )


def _block_cuts(series_ids: Int64Array, ts_ms: Int64Array, length_ms: int) -> list[int]:
    """Where samples are divided so that a block fits a core's cache; never inside a bucket."""
    cuts, count = [0], len(ts_ms)
    while cuts[-1] + _BLOCK < count:
        last = cuts[-1] + _BLOCK
        end = int(bucket_ends_ms(ts_ms[last : last + 1], length_ms)[0])
        behind = last + int(np.searchsorted(series_ids[last:], series_ids[last], side="right"))
        cuts.append(last + int(np.searchsorted(ts_ms[last:behind], end, side="right")))
    return [*cuts, count] if cuts[-1] < count or count == 0 else cuts


def _roll_up_block(
    series_ids: Int64Array,
    ts_ms: Int64Array,
    values: FloatArray,
    length_ms: int,
    intervals: Intervals,
) -> RollupColumns:
    """Records of whole buckets; there is no stale marker."""
    ends = bucket_ends_ms(ts_ms, length_ms)
    starts = _run_starts(series_ids, ends)
    lengths = np.diff(starts, append=len(values))
    with np.errstate(all="ignore"):
        total, low = compensated_sums(values, starts, lengths)
        counted = _steps(values, starts, lengths, total)
        mean, m2 = _spread(values, starts, lengths, total, low)
        minimum = _reduce(np.fmin, values, starts)
        maximum = _reduce(np.fmax, values, starts)
    ids = series_ids[starts]
    lasts = starts + lengths - 1
    return RollupColumns(
        series_ids=ids,
        ends_ms=ends[starts],
        n=lengths,
        expected=expected_samples(ids, length_ms, intervals),
        total=total,
        total_low=low,
        minimum=minimum,
        maximum=maximum,
        first_ms=ts_ms[starts],
        first=values[starts],
        last_ms=ts_ms[lasts],
        last=values[lasts],
        reset_sum=counted.reset_sum,
        resets_whole=counted.resets_whole,
        resets=counted.resets,
        changes=counted.changes,
        mean=mean,
        m2=m2,
    )


def merge(rows: RollupColumns, from_ms: int, to_ms: int) -> RollupColumns:
    """Records of longer buckets from those of shorter ones, as if made from the samples.

    Args:
        rows: ordered by (series, end), as every `RollupColumns`.
        from_ms: length of their buckets.
        to_ms: length of the new ones, a multiple.
    """
    starts = _run_starts(rows.series_ids, bucket_ends_ms(rows.ends_ms, to_ms))
    merged = merge_runs(rows, starts)
    ends = bucket_ends_ms(rows.ends_ms[starts], to_ms)
    # A multiple of what the last of them expected: buckets without a row were expected as well.
    lasts = np.append(starts[1:], len(rows)) - 1 if len(starts) else starts
    expected = rows.expected[lasts] * (to_ms // from_ms)
    return replace(merged, ends_ms=ends, expected=expected)


def merge_runs(rows: RollupColumns, starts: Int64Array) -> RollupColumns:
    """One record for each run of neighbouring records of one series.

    Args:
        rows: records; between two of a run there may be buckets without a sample.
        starts: index at which each run begins; each ends where the next one begins.

    Returns:
        Records named by the end of their last one; `expected` is the sum of what was expected.
    """
    lengths = np.diff(starts, append=len(rows))
    lasts = starts + lengths - 1
    with np.errstate(all="ignore"):
        down, differs = _borders(rows, starts)
        total, low = compensated_sums(rows.total, starts, lengths, rows.total_low)
        n = _reduce(np.add, rows.n, starts)
        mean, m2 = _merged_spread(rows, starts, lengths, n, total, low)
        at_borders = np.where(down, np.roll(rows.last, 1), 0.0)
        are_whole = rows.resets_whole & (at_borders == np.rint(at_borders))
        return RollupColumns(
            series_ids=rows.series_ids[starts],
            ends_ms=rows.ends_ms[lasts],
            n=n,
            expected=_reduce(np.add, rows.expected, starts),
            total=total,
            total_low=low,
            minimum=_reduce(np.fmin, rows.minimum, starts),
            maximum=_reduce(np.fmax, rows.maximum, starts),
            first_ms=rows.first_ms[starts],
            first=rows.first[starts],
            last_ms=rows.last_ms[lasts],
            last=rows.last[lasts],
            reset_sum=_reduce(np.add, rows.reset_sum + at_borders, starts),
            resets_whole=_reduce(np.logical_and, are_whole, starts),
            resets=_reduce(np.add, rows.resets + down, starts),
            changes=_reduce(np.add, rows.changes + differs, starts),
            mean=mean,
            m2=m2,
        )


def expected_samples(ids: Int64Array, length_ms: int, intervals: Intervals) -> FloatArray:
    """Samples that a bucket of each series should have; NaN where its interval is unknown."""
    if not len(intervals.ids) or not len(ids):
        return np.full(len(ids), np.nan)
    runs = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))
    each = np.searchsorted(intervals.ids, ids[runs])
    each[each == len(intervals.ids)] = 0
    known = intervals.ids[each] == ids[runs]
    found = np.where(known, length_ms / intervals.interval_ms[each], np.nan)
    return np.repeat(found, np.diff(runs, append=len(ids)))


def compensated_sums(
    values: FloatArray,
    starts: Int64Array,
    lengths: Int64Array,
    lows: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Sum of each run as a pair of doubles, added in order after Neumaier.

    Runs of whole numbers that cannot round are added directly. The others are added one position
    at a time, all runs together, the longest first.

    Args:
        values: of all runs.
        starts: index at which each run begins.
        lengths: of each run, at least 1.
        lows: low halves, where the values are pairs themselves.

    Returns:
        (high, low): the sum is their sum; low is 0 where high is not finite.
    """
    if not len(starts):
        return np.empty(0), np.empty(0)
    high = np.add.reduceat(values, starts)
    low = np.zeros(len(starts)) if lows is None else np.add.reduceat(lows, starts)
    inexact = np.flatnonzero((lengths > 1) & ~_is_exact(values, starts))
    if len(inexact):
        order = inexact[np.argsort(-lengths[inexact], kind="stable")]
        high[order], lost = _neumaier(values, starts[order], lengths[order])
        low[order] += lost
    low[~np.isfinite(high)] = 0.0
    return high, low


def _is_exact(values: FloatArray, starts: Int64Array) -> BoolArray:
    """Which runs hold whole numbers so small that no partial sum rounds."""
    whole = np.logical_and.reduceat(values == np.rint(values), starts)
    exact: BoolArray = whole & (np.add.reduceat(np.abs(values), starts) < _EXACT_MAX)
    return exact


def _neumaier(
    values: FloatArray, starts: Int64Array, lengths: Int64Array
) -> tuple[FloatArray, FloatArray]:
    """Sums and lost parts of runs that are ordered by falling length."""
    high, low = values[starts], np.zeros(len(starts))
    active = np.searchsorted(-lengths, -np.arange(1, int(lengths[0])), side="left")
    for position, many in enumerate(active, start=1):
        if many <= _FEW and lengths[0] - position > _FEW:
            for run in range(many):
                rest = values[starts[run] + position : starts[run] + lengths[run]]
                high[run], low[run] = _add_up(float(high[run]), float(low[run]), rest.tolist())
            break
        before, added = high[:many], values[starts[:many] + position]
        after = before + added
        taken = after - before
        low[:many] += (before - (after - taken)) + (added - taken)
        high[:many] = after
    return high, low


def _add_up(high: float, low: float, values: list[float]) -> tuple[float, float]:
    """Go on with one run; the same operations as over columns."""
    for added in values:
        after = high + added
        taken = after - high
        low += (high - (after - taken)) + (added - taken)
        high = after
    return high, low


class _Steps(NamedTuple):
    reset_sum: FloatArray
    resets_whole: BoolArray
    resets: Int64Array
    changes: Int64Array


def _steps(
    values: FloatArray, starts: Int64Array, lengths: Int64Array, total: FloatArray
) -> _Steps:
    """What happens between neighbouring values of each run."""
    if not len(values):
        nothing = np.empty(0, np.int64)
        return _Steps(np.empty(0), np.empty(0, np.bool_), nothing, nothing)
    before, after = values[:-1], values[1:]
    down = np.zeros(len(values), np.bool_)
    np.less(after, before, out=down[1:])
    down[starts] = False
    differs = np.zeros(len(values), np.bool_)
    np.not_equal(after, before, out=differs[1:])
    if np.isnan(total).any():  # else no value is NaN
        nan = np.isnan(values)
        differs[1:] &= ~(nan[1:] & nan[:-1])
    differs[starts] = False
    reset_sum, resets_whole = np.zeros(len(starts)), np.ones(len(starts), np.bool_)
    at = np.flatnonzero(down)
    if len(at):
        runs = np.searchsorted(starts, at, side="right") - 1
        added = values[at - 1]
        np.add.at(reset_sum, runs, added)
        resets_whole[runs[added != np.rint(added)]] = False
    resets, changes = (_count(flags, starts, lengths) for flags in (down, differs))
    return _Steps(reset_sum, resets_whole, resets, changes)


def _count(flags: BoolArray, starts: Int64Array, lengths: Int64Array) -> Int64Array:
    """How many flags each run has."""
    if np.max(lengths) < 256:  # a byte holds the sum
        few: Int64Array = np.add.reduceat(flags.view(np.uint8), starts).astype(np.int64)
        return few
    sums = np.cumsum(flags, dtype=np.int64)
    counted: Int64Array = np.diff(sums[starts + lengths - 1], prepend=0)
    return counted


def _borders(rows: RollupColumns, starts: Int64Array) -> tuple[BoolArray, BoolArray]:
    """Where a record of a run begins lower than the one before it ended, and where otherwise."""
    down = np.zeros(len(rows), np.bool_)
    differs = np.zeros(len(rows), np.bool_)
    if len(rows):
        before, after = rows.last[:-1], rows.first[1:]
        down[1:] = after < before
        differs[1:] = (after != before) & ~(np.isnan(after) & np.isnan(before))
        down[starts] = False
        differs[starts] = False
    return down, differs


def _spread(
    values: FloatArray,
    starts: Int64Array,
    lengths: Int64Array,
    total: FloatArray,
    low: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Mean of each run, and the sum of squared differences from it."""
    mean = (total + low) / lengths
    if not len(starts):
        return mean, mean
    overflowed = np.isinf(mean) & np.logical_and.reduceat(np.isfinite(values), starts)
    if overflowed.any():
        shares = np.add.reduceat(values / np.repeat(lengths, lengths), starts)
        mean = np.where(overflowed, shares, mean)
    distance = values - np.repeat(mean, lengths)
    distance *= distance
    return mean, np.add.reduceat(distance, starts)


def _merged_spread(
    rows: RollupColumns,
    starts: Int64Array,
    lengths: Int64Array,
    n: Int64Array,
    total: FloatArray,
    low: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Mean and sum of squares of runs of records: those within, and those between their means."""
    mean = (total + low) / n
    if not len(starts):
        return mean, mean
    overflowed = np.isinf(mean) & np.logical_and.reduceat(np.isfinite(rows.mean), starts)
    if overflowed.any():
        shares = np.add.reduceat(rows.mean * (rows.n / np.repeat(n, lengths)), starts)
        mean = np.where(overflowed, shares, mean)
    distance = rows.mean - np.repeat(mean, lengths)
    return mean, np.add.reduceat(rows.m2 + rows.n * distance * distance, starts)


def _run_starts(series_ids: Int64Array, ends: Int64Array) -> Int64Array:
    """Where series or bucket differ from the row before."""
    if not len(series_ids):
        return np.empty(0, np.int64)
    is_new = np.empty(len(series_ids), np.bool_)
    is_new[0] = True
    np.not_equal(ends[1:], ends[:-1], out=is_new[1:])
    is_new[1:] |= series_ids[1:] != series_ids[:-1]
    return np.flatnonzero(is_new)


def _reduce(how: np.ufunc, column: np.ndarray, starts: Int64Array) -> np.ndarray:
    """Reduce a column between starts; `reduceat` refuses empty ones."""
    return how.reduceat(column, starts) if len(starts) else column[:0].copy()
