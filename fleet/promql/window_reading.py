"""Reading the windows of a selector from the level that the plan names, bounded in memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.metrics.answers import Runs, Windows, runs_of_records, runs_of_samples
from fleet.metrics.histogram_records import records_of_samples, without_markers
from fleet.metrics.levels import HOUR_MS, Level
from fleet.metrics.row_ranges import window_bounds
from fleet.metrics.sketches import SketchColumns, quantiles_of_runs
from fleet.ports.metric_store import MetricReader, SelectedSeries
from fleet.promql.native_windows import HistogramWindows
from fleet.promql.plan import Need, Piece

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

SAMPLES_AT_ONCE = 20_000_000
"""Raw samples read in one call, about 500 MB; more series are read in groups."""
RECORDS_AT_ONCE = 2_000_000
"""Records of rollups read in one call, about 300 MB."""
HISTOGRAMS_SMALLER = 20
"""A native histogram takes about as much room as so many numbers."""
SKETCHES_SMALLER = 4
"""A sketch takes about as much room as so many records."""
INFOS_LOOKED_AT = 100
"""Series whose interval is looked at: those of one selector are mostly scraped alike."""
INTERVAL_GUESS_MS = 15_000
"""Time between samples of a series that does not say it; only sizes of reads depend on it."""
GAP_MS = HOUR_MS
"""Windows further apart are read one by one. Raw parts hold an hour: nearer ones share a part."""


class WindowTimes(NamedTuple):
    """The windows of a selector, one per step (or one for all steps, where `@` pins it)."""

    starts_ms: Int64Array
    """Nominal start of each window."""
    ends_ms: Int64Array
    at_ms: Int64Array
    """The step itself, which `offset` and `@` do not move."""


class Read(NamedTuple):
    """What one read covers: rows of series and steps of the piece, from and to which times."""

    rows: slice
    columns: slice
    start_ms: int
    end_ms: int
    starts_ms: Int64Array
    """Of the windows."""
    ends_ms: Int64Array


def moved(bounds_ms: Int64Array, piece: Piece) -> Int64Array:
    """Borders of windows, moved back to those of buckets where the piece says so."""
    if piece.aligned or piece.level is None:
        return bounds_ms
    return bounds_ms // piece.level * piece.level


def read_windows(
    reader: MetricReader, series: SelectedSeries, piece: Piece, times: WindowTimes, need: Need
) -> Iterator[tuple[slice, slice, Windows]]:
    """Windows of a piece, as (rows, steps within the piece, windows)."""
    for each in reads(series, piece, times):
        ids, span = series.ids[each.rows], (each.start_ms, each.end_ms)
        # held by nobody here: the next group is read when this one is done with
        yield (
            each.rows,
            each.columns,
            Windows(_runs(reader, ids, piece.level, *span, need), each.starts_ms, each.ends_ms),
        )


def read_native_windows(
    reader: MetricReader, series: SelectedSeries, piece: Piece, times: WindowTimes, need: Need
) -> Iterator[tuple[slice, slice, HistogramWindows]]:
    """The same of native histograms; nothing where there are none."""
    for each in reads(series, piece, times, HISTOGRAMS_SMALLER):
        ids = series.ids[each.rows]
        if piece.level is not None:
            records = reader.histogram_records(ids, piece.level, each.start_ms, each.end_ms)
        else:
            samples = reader.histograms(ids, each.start_ms, each.end_ms)
            records = records_of_samples(samples if need is Need.LAST else without_markers(samples))
        if len(records):
            windows = HistogramWindows(ids, records, each.starts_ms, each.ends_ms)
            yield each.rows, each.columns, windows


class SketchWindows:
    """The sketches of windows (start, end], for every series and step; empty ones left out."""

    def __init__(
        self, ids: Int64Array, sketches: SketchColumns, starts_ms: Int64Array, ends_ms: Int64Array
    ) -> None:
        """Find the rows of each window; arguments as of `HistogramWindows`."""
        self._sketches = sketches
        self._shape = (len(ids), len(ends_ms))
        found = np.searchsorted(sketches.series_ids, ids).astype(np.int64)
        offsets = np.append(found, len(sketches))
        low, high = window_bounds(offsets, sketches.ends_ms, starts_ms, ends_ms)
        self._at = np.flatnonzero(high > low)
        self._low, self._high = low[self._at], high[self._at]

    def quantiles(self, q: FloatArray) -> tuple[FloatArray, BoolArray]:
        """The quantile of each window as (series, steps), and where there is one.

        Args:
            q: one per step.
        """
        values, present = np.zeros(self._shape), np.zeros(self._shape, np.bool_)
        step = self._at % self._shape[1]
        values.ravel()[self._at] = quantiles_of_runs(self._sketches, self._low, self._high, q[step])
        present.ravel()[self._at] = True
        return values, present


def read_sketch_windows(
    reader: MetricReader, series: SelectedSeries, piece: Piece, times: WindowTimes
) -> Iterator[tuple[slice, slice, SketchWindows]]:
    """Windows of sketches of a piece that a level answers."""
    assert piece.level is not None
    for each in reads(series, piece, times, SKETCHES_SMALLER):
        ids = series.ids[each.rows]
        found = reader.sketches(ids, piece.level, each.start_ms, each.end_ms)
        yield each.rows, each.columns, SketchWindows(ids, found, each.starts_ms, each.ends_ms)


def reads(
    series: SelectedSeries, piece: Piece, times: WindowTimes, smaller: int = 1
) -> Iterator[Read]:
    """Divide a piece by time, where windows lie far apart, and by series.

    Args:
        series: all of the selector.
        piece: its steps.
        times: of these steps.
        smaller: how much smaller than usual reads are.
    """
    starts, ends = moved(times.starts_ms, piece), moved(times.ends_ms, piece)
    for columns in _spans(starts, ends):
        start, end = int(starts[columns.start]), int(ends[columns.stop - 1])
        if start >= end:
            continue
        size = max(1, series_at_once(series, piece.level, end - start) // smaller)
        for first in range(0, len(series.ids), size):
            rows = slice(first, min(first + size, len(series.ids)))
            yield Read(rows, columns, start, end, starts[columns], ends[columns])


def _spans(starts: Int64Array, ends: Int64Array) -> Iterator[slice]:
    """Steps whose windows are read together: neighbours that are not far apart."""
    apart = np.flatnonzero(starts[1:] - ends[:-1] > GAP_MS) + 1
    borders = [0, *apart.tolist(), len(ends)]
    for first, stop in pairwise(borders):
        yield slice(first, stop)


def series_at_once(series: SelectedSeries, level: Level | None, length_ms: int) -> int:
    """How many series are read in one call.

    Args:
        series: their interval is looked at.
        level: that is read; None for raw samples.
        length_ms: how much time is read.
    """
    if level is not None:
        return max(1, RECORDS_AT_ONCE // max(length_ms // level, 1))
    known = [info.interval_ms for info in series.infos[:INFOS_LOOKED_AT] if info.interval_ms]
    each = length_ms // min(known, default=INTERVAL_GUESS_MS) + 1
    return max(1, SAMPLES_AT_ONCE // each)


def _runs(
    reader: MetricReader, ids: Int64Array, level: Level | None, start: int, end: int, need: Need
) -> Runs:
    if level is not None:
        return runs_of_records(ids, reader.records(ids, level, start, end))
    return runs_of_samples(ids, reader.samples(ids, start, end), stale=need is Need.LAST)
