"""Windows of native histograms: what rate, increase and their like compute of each.

As `fleet.metrics.answers` for numbers: a sample is a record of one sample, so raw samples and
rollups have one code path.

Source: Prometheus, promql/functions.go (`histogramRate`, `extrapolatedRate`) of v3.9.1, and v2.42.0
where `Semantics` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.metrics.histogram_columns import (
    Histograms,
    are_equal,
    concat_histograms,
    scaled,
    sum_groups,
    take_histograms,
)
from fleet.metrics.histogram_records import HistogramRecords, falls, take_records
from fleet.metrics.row_ranges import window_bounds
from fleet.metrics.samples import is_stale
from fleet.promql.extrapolation import factors

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array
    from fleet.promql.window_context import WindowContext


class HistogramWindows:
    """The records of windows (start, end], for every series and step; empty ones left out."""

    def __init__(
        self,
        ids: Int64Array,
        records: HistogramRecords,
        starts_ms: Int64Array,
        ends_ms: Int64Array,
    ) -> None:
        """Find the rows of each window.

        Args:
            ids: series, ascending; of others there is no record.
            records: of the series, by (series, end).
            starts_ms: one per step, milliseconds, excluded.
            ends_ms: one per step, included.
        """
        self.records = records
        self.steps = len(ends_ms)
        self._starts_ms, self._ends_ms = starts_ms, ends_ms
        found = np.searchsorted(records.series_ids, ids).astype(np.int64)
        offsets = np.append(found, len(records))
        low, high = window_bounds(offsets, records.ends_ms, starts_ms, ends_ms)
        self.at = np.flatnonzero(high > low)
        """Which of all windows (series x steps, flat) have rows."""
        self.low, self.high = low[self.at], high[self.at]

    def __len__(self) -> int:
        """Number of windows with rows."""
        return len(self.at)

    def of_series(self, ids: Int64Array) -> HistogramWindows:
        """The same windows of some of the series."""
        kept = take_records(self.records, np.isin(self.records.series_ids, ids))
        return HistogramWindows(ids, kept, self._starts_ms, self._ends_ms)

    @cached_property
    def n(self) -> Int64Array:
        """Samples."""
        return self._between(self.records.n, self.low)

    @cached_property
    def fell(self) -> BoolArray:
        """For each row whether the counter began anew since the row before."""
        return falls(self.records)

    @property
    def changes(self) -> Int64Array:
        """How often a histogram was another than the one before; of samples only."""
        moved = np.zeros(len(self.records), np.bool_)
        states = self.records.first
        rows = np.arange(1, len(states))
        moved[1:] = ~are_equal(take_histograms(states, rows), take_histograms(states, rows - 1))
        return self._between(moved, self.low + 1)

    @property
    def total(self) -> Histograms:
        """The sum of the histograms; of samples only."""
        counts = self.high - self.low
        starts = np.cumsum(counts) - counts
        rows = np.arange(int(counts.sum())) + np.repeat(self.low - starts, counts)
        groups = np.repeat(np.arange(len(self)), counts)
        return sum_groups(take_histograms(self.records.first, rows), groups, len(self))

    @property
    def resets(self) -> Int64Array:
        """How often the counter began anew."""
        return self._between(self.fell, self.low + 1) + self._between(self.records.resets, self.low)

    @property
    def rounded(self) -> BoolArray:
        """Where the last bits of sums in `grown` may not be those of Prometheus.

        That is where a record holds several resets: their histograms were added up before, and sums
        of observations have decimals.
        """
        found: BoolArray = self._between(self.records.resets > 1, self.low) > 0
        return found

    @property
    def first(self) -> Histograms:
        """The first histogram."""
        return take_histograms(self.records.first, self.low)

    @property
    def last(self) -> Histograms:
        """The last histogram."""
        return take_histograms(self.records.last, self.high - 1)

    @property
    def first_ms(self) -> Int64Array:
        """Time of the first histogram."""
        return self.records.first_ms[self.low]

    @property
    def last_ms(self) -> Int64Array:
        """Time of the last histogram."""
        return self.records.last_ms[self.high - 1]

    def grown(self, *, is_counter: bool) -> Histograms:
        """Last minus first; of a counter with what it counted before each reset.

        Added in the order of time, as Prometheus does: else the last bits of sums would differ.
        """
        windows = np.arange(len(self))
        parts, groups = [self.last, self.first], [windows, windows]
        if is_counter:
            before, around = self._before_resets()
            parts.append(before)
            groups.append(around)
        weights = np.ones(sum(map(len, parts)))
        weights[len(self) : 2 * len(self)] = -1.0
        return sum_groups(concat_histograms(parts), np.concatenate(groups), len(self), weights)

    def _before_resets(self) -> tuple[Histograms, Int64Array]:
        """Histograms right before resets in the order of time, and the windows they belong to."""
        parts, groups, places = [], [], []
        for rows, states, begin in (
            (np.flatnonzero(self.records.resets), self.records.reset_sum, 0),
            (np.flatnonzero(self.fell), self.records.last, 1),
        ):
            # windows lie in the order of their rows: those around a row are neighbours
            first = np.searchsorted(self.high, rows, "right")
            behind = np.searchsorted(self.low + begin, rows, "right")
            counts = np.maximum(behind - first, 0)
            ends = np.cumsum(counts)
            around = np.arange(int(counts.sum())) + np.repeat(first - (ends - counts), counts)
            parts.append(take_histograms(states, np.repeat(rows - begin, counts)))
            groups.append(around)
            # the step into a row comes before what lies inside of it
            places.append(np.repeat(2 * rows + 1 - begin, counts))
        order = np.argsort(np.concatenate(places), kind="stable")
        return take_histograms(concat_histograms(parts), order), np.concatenate(groups)[order]

    def _between(self, column: Int64Array | BoolArray, low: Int64Array) -> Int64Array:
        sums = np.zeros(len(column) + 1, np.int64)
        np.cumsum(column, out=sums[1:])
        found: Int64Array = sums[self.high] - sums[low]
        return found


class FoundHistograms(NamedTuple):
    """A histogram for some windows."""

    histograms: Histograms
    kept: BoolArray
    """Which windows have one; as many as windows, and true as often as there are histograms."""


class NativeFunction(NamedTuple):
    """What a function makes of windows of histograms: histograms, or numbers.

    Exactly one of the two is set.
    """

    to_histograms: Callable[[HistogramWindows, WindowContext], FoundHistograms] | None = None
    to_numbers: Callable[[HistogramWindows], FloatArray] | None = None
    """NaN where a window has none."""
    combine: np.ufunc = np.add
    """How they meet what the function makes of the numbers of the same window."""
    takes_latest: bool = False
    """Whether the later of a histogram and a number counts; else a window with both has none."""
    needs_samples: bool = False
    """Whether records of rollups do not hold what it needs."""


def _extrapolated(
    windows: HistogramWindows, context: WindowContext, *, is_counter: bool, is_rate: bool
) -> FoundHistograms:
    kept = windows.n > 1
    grown = windows.grown(is_counter=is_counter)
    factor = factors(
        windows.n,
        windows.first_ms,
        windows.last_ms,
        context,
        is_rate=is_rate,
        zero=(windows.first.observations, grown.observations)
        if is_counter and not context.semantics.histograms_reach_before_zero
        else None,
    )
    return FoundHistograms(take_histograms(scaled(grown, np.where(kept, factor, 0.0)), kept), kept)


def _last(windows: HistogramWindows, _: WindowContext) -> FoundHistograms:
    last = windows.last
    kept = ~is_stale(last.totals)
    return FoundHistograms(take_histograms(last, kept), kept)


def _summed(windows: HistogramWindows, _: WindowContext) -> FoundHistograms:
    return FoundHistograms(windows.total, np.ones(len(windows), np.bool_))


def _averaged(windows: HistogramWindows, _: WindowContext) -> FoundHistograms:
    mean = scaled(windows.total, 1.0 / windows.n)
    return FoundHistograms(mean, np.ones(len(windows), np.bool_))


def _last_time(windows: HistogramWindows) -> FloatArray:
    return np.where(is_stale(windows.last.totals), np.nan, windows.last_ms / 1000)


LAST = NativeFunction(_last, takes_latest=True)
"""Of an instant selector: the last histogram, unless it says that the series ended."""
LAST_TIME = NativeFunction(to_numbers=_last_time, combine=np.maximum)
"""The time of that histogram, in seconds."""

NATIVE: dict[str, NativeFunction] = {
    "rate": NativeFunction(lambda w, c: _extrapolated(w, c, is_counter=True, is_rate=True)),
    "increase": NativeFunction(lambda w, c: _extrapolated(w, c, is_counter=True, is_rate=False)),
    "delta": NativeFunction(lambda w, c: _extrapolated(w, c, is_counter=False, is_rate=False)),
    "last_over_time": LAST,
    "sum_over_time": NativeFunction(_summed, needs_samples=True),
    "avg_over_time": NativeFunction(_averaged, needs_samples=True),
    "changes": NativeFunction(
        to_numbers=lambda w: w.changes.astype(np.float64), needs_samples=True
    ),
    "resets": NativeFunction(to_numbers=lambda w: w.resets.astype(np.float64)),
    "count_over_time": NativeFunction(to_numbers=lambda w: w.n.astype(np.float64)),
    "present_over_time": NativeFunction(to_numbers=lambda w: np.ones(len(w)), combine=np.maximum),
    "absent_over_time": NativeFunction(to_numbers=lambda w: np.ones(len(w)), combine=np.maximum),
}
"""Functions of windows that take native histograms; the others refuse them by name."""
