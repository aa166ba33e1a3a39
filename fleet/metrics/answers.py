"""Windows from records: what a query asks of a span of time, computed from what buckets keep.

A raw sample is a record of one sample, so that one code path answers from raw samples and from
rollups, whatever their level. Counters are exact: rate, increase, delta, resets, changes, count,
first, last, min and max come out equal bit by bit. The one exception says so (`Windows.rounded`):
buckets that hold several resets whose values add up with rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.metrics.record import RollupColumns
from fleet.metrics.row_ranges import exact_sums, reduce_between, window_bounds
from fleet.metrics.samples import SampleBatch, is_stale

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

WHOLE_MAX = 2.0**53
"""Whole numbers up to here are added without rounding."""
EXPANDED_MAX = 4_000_000
"""Rows of overlapping windows that are laid out at once, where a function needs each of them."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Records of several series behind one another, each series' in order of time.

    Columns are those of `RollupColumns`; None stands for what a single sample makes trivial: n is
    1, and the compensation, resets, changes and squared differences are 0.

    Attributes:
        offsets: int64, one more than series; series i has rows offsets[i] to offsets[i + 1].
        ends_ms: the time by which windows choose: a bucket's end, a sample's own time.
    """

    offsets: Int64Array
    ends_ms: Int64Array
    first_ms: Int64Array
    first: FloatArray
    last_ms: Int64Array
    last: FloatArray
    total: FloatArray
    minimum: FloatArray
    maximum: FloatArray
    mean: FloatArray
    n: Int64Array | None = None
    total_low: FloatArray | None = None
    reset_sum: FloatArray | None = None
    resets_whole: BoolArray | None = None
    resets: Int64Array | None = None
    changes: Int64Array | None = None
    m2: FloatArray | None = None

    @cached_property
    def fell(self) -> BoolArray:
        """For each row whether its first value is below the last of the row before."""
        fell = np.zeros(len(self.first), np.bool_)
        np.less(self.first[1:], self.last[:-1], out=fell[1:])
        return fell

    @cached_property
    def before_resets(self) -> tuple[Int64Array, FloatArray]:
        """Where there are resets, ascending, and the values right before them.

        Place 2 i is the step into row i, from whatever row lies before it; 2 i + 1 is inside of it.
        """
        steps = np.flatnonzero(self.fell)
        values = self.last[steps - 1]
        if self.reset_sum is None:
            return 2 * steps, values
        inside = np.flatnonzero(self.reset_sum != 0)
        places = np.concatenate([2 * steps, 2 * inside + 1])
        order = np.argsort(places)
        return places[order], np.concatenate([values, self.reset_sum[inside]])[order]

    @cached_property
    def moved(self) -> BoolArray:
        """For each row whether its first value differs from the last before; NaN equals NaN."""
        moved = np.zeros(len(self.first), np.bool_)
        one, other = self.first[1:], self.last[:-1]
        np.not_equal(one, other, out=moved[1:])
        moved[1:] &= ~(np.isnan(one) & np.isnan(other))
        return moved


def runs_of_samples(ids: Int64Array, batch: SampleBatch, *, stale: bool = False) -> Runs:
    """Samples as records of one sample each.

    Args:
        ids: series, ascending; of others nothing is in the batch.
        batch: ordered by (series, time).
        stale: whether stale markers stay; ranges do not see them.
    """
    series_ids, ts_ms, values = batch.series_ids, batch.ts_ms, batch.values
    if not stale:
        marked = is_stale(values)
        if marked.any():
            kept = ~marked
            series_ids, ts_ms, values = series_ids[kept], ts_ms[kept], values[kept]
    return runs_of_points(_offsets(ids, series_ids), ts_ms, values)


def runs_of_points(offsets: Int64Array, ts_ms: Int64Array, values: FloatArray) -> Runs:
    """Samples that lie series by series, as records of one sample each."""
    return Runs(offsets, ts_ms, ts_ms, values, ts_ms, values, values, values, values, values)


def runs_of_records(ids: Int64Array, records: RollupColumns) -> Runs:
    """Records of a rollup; `ids` ascending, no record of another series among them."""
    return Runs(
        offsets=_offsets(ids, records.series_ids),
        ends_ms=records.ends_ms,
        first_ms=records.first_ms,
        first=records.first,
        last_ms=records.last_ms,
        last=records.last,
        total=records.total,
        minimum=records.minimum,
        maximum=records.maximum,
        mean=records.mean,
        n=records.n,
        total_low=records.total_low,
        reset_sum=records.reset_sum,
        resets_whole=records.resets_whole,
        resets=records.resets,
        changes=records.changes,
        m2=records.m2,
    )


def _offsets(ids: Int64Array, series_ids: Int64Array) -> Int64Array:
    found = np.searchsorted(series_ids, ids).astype(np.int64)
    return np.append(found, len(series_ids))


class Rows(NamedTuple):
    """Some windows laid out: every row of each, windows behind one another."""

    windows: slice
    rows: Int64Array
    """Into the columns of the runs."""
    starts: Int64Array
    """Where each window begins in `rows`."""
    counts: Int64Array


class Windows:
    """The records of windows (start, end], for every series and step; those without a row left out.

    Each property has one value per window, in the order series by series, step by step, and is
    computed when first asked for.
    """

    def __init__(self, runs: Runs, starts_ms: Int64Array, ends_ms: Int64Array) -> None:
        """Find the rows of each window.

        Args:
            runs: the records.
            starts_ms: one per step, milliseconds, excluded.
            ends_ms: one per step, included.
        """
        self.runs = runs
        self.shape = (len(runs.offsets) - 1, len(ends_ms))
        low, high = window_bounds(runs.offsets, runs.ends_ms, starts_ms, ends_ms)
        self.at = np.flatnonzero(high > low)
        """Which of all windows (series x steps, flat) have rows."""
        self.low, self.high = low[self.at], high[self.at]

    @property
    def step(self) -> Int64Array:
        """Number of each window's step."""
        steps: Int64Array = self.at % self.shape[1]
        return steps

    def spread(
        self, values: FloatArray, kept: BoolArray | None = None
    ) -> tuple[FloatArray, BoolArray]:
        """Values laid out as (series, steps), and where there is one.

        Args:
            values: one per window.
            kept: which windows have an answer; None for all.
        """
        filled = np.zeros(self.shape[0] * self.shape[1])
        present = np.zeros(len(filled), np.bool_)
        filled[self.at] = values
        present[self.at] = True if kept is None else kept
        return filled.reshape(self.shape), present.reshape(self.shape)

    @cached_property
    def n(self) -> Int64Array:
        """Samples."""
        if self.runs.n is None:
            return self.high - self.low
        return self._between(self.runs.n, self.low)

    @property
    def first(self) -> FloatArray:
        """Value of the first sample."""
        return self.runs.first[self.low]

    @property
    def last(self) -> FloatArray:
        """Value of the last sample."""
        return self.runs.last[self.high - 1]

    @property
    def first_ms(self) -> Int64Array:
        """Time of the first sample."""
        return self.runs.first_ms[self.low]

    @property
    def last_ms(self) -> Int64Array:
        """Time of the last sample."""
        return self.runs.last_ms[self.high - 1]

    @cached_property
    def minimum(self) -> FloatArray:
        """Lowest value; NaN only where every value is."""
        return self._reduce(np.fmin, self.runs.minimum)

    @cached_property
    def maximum(self) -> FloatArray:
        """Highest value; NaN only where every value is."""
        return self._reduce(np.fmax, self.runs.maximum)

    @cached_property
    def risen(self) -> FloatArray:
        """What a counter has counted: last less first, then each value right before a reset.

        Added in the order of time, as Prometheus adds them: else the last bits would differ. Of a
        record that holds several resets their sum is added; `rounded` says where that matters.
        """
        found = self.last - self.first
        places, added = self.runs.before_resets
        # the step into the first row is not part of the window, what that row holds inside is
        low = np.searchsorted(places, 2 * self.low + 1)
        counts = np.searchsorted(places, 2 * self.high) - low
        order = np.argsort(-counts, kind="stable")
        for position in range(int(np.max(counts, initial=0))):
            order = order[: np.searchsorted(-counts[order], -position)]
            found[order] += added[low[order] + position]
        return found

    @cached_property
    def rounded(self) -> BoolArray:
        """Where the last bits of `risen` may not be those of Prometheus.

        That is where a record holds several resets, unless whatever is added is whole, and so
        small that no partial sum rounds.
        """
        runs = self.runs
        if runs.resets is None or runs.resets_whole is None or not (runs.resets > 1).any():
            return np.zeros(len(self.low), np.bool_)
        several = self._between(runs.resets > 1, self.low) > 0
        whole = runs.resets_whole & (runs.first == np.rint(runs.first))
        whole &= runs.last == np.rint(runs.last)
        largest = np.maximum(np.abs(self.minimum), np.abs(self.maximum))
        small = largest * (self.resets + 2) < WHOLE_MAX
        found: BoolArray = several & ~(small & (self._between(~whole, self.low) == 0))
        return found

    @cached_property
    def resets(self) -> Int64Array:
        """How often the value fell."""
        found = self._between(self.runs.fell, self.low + 1)
        inside = self.runs.resets
        return found if inside is None else found + self._between(inside, self.low)

    @cached_property
    def changes(self) -> Int64Array:
        """How often the value was another than the one before."""
        found = self._between(self.runs.moved, self.low + 1)
        inside = self.runs.changes
        return found if inside is None else found + self._between(inside, self.low)

    @cached_property
    def total(self) -> FloatArray:
        """Sum of the values, without what plain addition would lose; from 0, so never -0."""
        return exact_sums(self.runs.total, self.runs.total_low, self.low, self.high) + 0.0

    @cached_property
    def mean(self) -> FloatArray:
        """Average; also of values whose sum is beyond what a double holds."""
        mean = self.total / self.n
        over = np.flatnonzero(
            np.isinf(mean) & np.isfinite(self.minimum) & np.isfinite(self.maximum)
        )
        for window in over:
            rows = slice(self.low[window], self.high[window])
            counts = 1 if self.runs.n is None else self.runs.n[rows]
            mean[window] = np.sum(self.runs.mean[rows] * (counts / self.n[window]))
        return mean

    @cached_property
    def m2(self) -> FloatArray:
        """Sum of squared differences from the average.

        Differences are taken from the first sample, so that large values lose nothing; of records,
        what their own averages are too coarse to say stays lost (spreads below 2^-50 of a value).
        """
        found = np.empty(len(self.low))
        for part in self.laid_out():
            away = self.runs.mean[part.rows] - np.repeat(self.first[part.windows], part.counts)
            weights = 1 if self.runs.n is None else self.runs.n[part.rows]
            mean = np.add.reduceat(away * weights, part.starts) / self.n[part.windows]
            squares = (away - np.repeat(mean, part.counts)) ** 2 * weights
            if self.runs.m2 is not None:
                squares += self.runs.m2[part.rows]
            found[part.windows] = np.add.reduceat(squares, part.starts)
        return found

    def laid_out(self) -> Iterator[Rows]:
        """All rows of all windows, at most `EXPANDED_MAX` (or one window) at a time."""
        counts = self.high - self.low
        done = np.cumsum(counts)
        begin = 0
        while begin < len(counts):
            before = done[begin - 1] if begin else 0
            stop = max(int(np.searchsorted(done, before + EXPANDED_MAX, "right")), begin + 1)
            part = slice(begin, stop)
            starts = np.cumsum(counts[part]) - counts[part]
            rows = np.arange(int(counts[part].sum()))
            rows += np.repeat(self.low[part] - starts, counts[part])
            yield Rows(part, rows, starts, counts[part])
            begin = stop

    def _reduce(self, how: np.ufunc, column: FloatArray) -> FloatArray:
        return reduce_between(how, column, self.low, self.high)

    def _between(self, column: Int64Array | BoolArray, low: Int64Array) -> Int64Array:
        """Sums of whole numbers from `low` to the end of each window."""
        sums = np.zeros(len(column) + 1, np.int64)
        np.cumsum(column, out=sums[1:])
        found: Int64Array = sums[self.high] - sums[low]
        return found
