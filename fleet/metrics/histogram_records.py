"""Records of native histograms: what a bucket of time keeps of a series of them.

As `fleet.metrics.record` for numbers: from two records of neighbouring buckets comes that of both,
whatever was between, so that rate and increase come out as from the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.metrics.histogram_columns import (
    Histograms,
    HistogramSamples,
    are_resets,
    concat_histograms,
    no_histograms,
    sum_groups,
    take_histograms,
    take_samples,
)
from fleet.metrics.levels import bucket_ends_ms
from fleet.metrics.samples import is_stale

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, Int64Array

TIMES = ("series_ids", "ends_ms", "n", "first_ms", "last_ms", "resets")
STATES = ("first", "last", "reset_sum")


@dataclass(frozen=True, slots=True, eq=False)
class HistogramRecords:
    """Records in columns of one length, ordered by (series_ids, ends_ms), one per pair.

    Attributes:
        series_ids: int64.
        ends_ms: int64, the end of the bucket; of a single sample its own time.
        n: int64, samples, at least 1; stale markers are none.
        first_ms, last_ms: int64, times of the first and last sample.
        resets: int64, how often the counter began anew.
        first, last: the histograms then.
        reset_sum: sum of the histograms right before each reset; empty ones without a reset.
    """

    series_ids: Int64Array
    ends_ms: Int64Array
    n: Int64Array
    first_ms: Int64Array
    last_ms: Int64Array
    resets: Int64Array
    first: Histograms
    last: Histograms
    reset_sum: Histograms

    def __len__(self) -> int:
        """Number of records."""
        return len(self.ends_ms)


def records_of_samples(samples: HistogramSamples) -> HistogramRecords:
    """Samples as records of one sample each.

    Args:
        samples: ordered by (series, time), one per pair; stale markers stay in.
    """
    count, ts_ms = len(samples), samples.ts_ms
    ones, zeros = np.ones(count, np.int64), np.zeros(count, np.int64)
    same = samples.histograms
    return HistogramRecords(
        samples.series_ids, ts_ms, ones, ts_ms, ts_ms, zeros, same, same, no_histograms(count)
    )


def without_markers(samples: HistogramSamples) -> HistogramSamples:
    """Samples without stale markers."""
    stale = is_stale(samples.histograms.totals)
    return take_samples(samples, ~stale) if stale.any() else samples


def roll_up_histograms(samples: HistogramSamples, length_ms: int) -> HistogramRecords:
    """One record for each series and bucket that has a histogram.

    Args:
        samples: ordered by (series, time), one per pair; stale markers are left out.
        length_ms: of the buckets, (start, end] and aligned to 1970.
    """
    return merge_histograms(records_of_samples(without_markers(samples)), length_ms)


def merge_histograms(rows: HistogramRecords, length_ms: int) -> HistogramRecords:
    """Records of longer buckets from those of shorter ones, as if made from the samples."""
    ends = bucket_ends_ms(rows.ends_ms, length_ms)
    if not len(rows):
        return rows
    is_new = np.ones(len(rows), np.bool_)
    is_new[1:] = (ends[1:] != ends[:-1]) | (rows.series_ids[1:] != rows.series_ids[:-1])
    starts = np.flatnonzero(is_new)
    lasts = np.append(starts[1:], len(rows)) - 1
    run = np.cumsum(is_new) - 1
    fell = falls(rows) & ~is_new
    inside = rows.resets > 0
    at = np.flatnonzero(fell)
    before = concat_histograms(
        [take_histograms(rows.reset_sum, inside), take_histograms(rows.last, at - 1)]
    )
    groups = np.concatenate([run[inside], run[at]])
    return HistogramRecords(
        rows.series_ids[starts],
        ends[starts],
        np.add.reduceat(rows.n, starts),
        rows.first_ms[starts],
        rows.last_ms[lasts],
        np.add.reduceat(rows.resets + fell, starts),
        take_histograms(rows.first, starts),
        take_histograms(rows.last, lasts),
        sum_groups(before, groups, len(starts)),
    )


def falls(rows: HistogramRecords) -> BoolArray:
    """For each record whether its counter began anew since the one before it, of its series."""
    found = np.zeros(len(rows), np.bool_)
    if len(rows) > 1:
        later = np.flatnonzero(rows.series_ids[1:] == rows.series_ids[:-1]) + 1
        found[later] = are_resets(
            take_histograms(rows.first, later), take_histograms(rows.last, later - 1)
        )
    return found


def take_records(rows: HistogramRecords, which: Any) -> HistogramRecords:
    """Some records: by index, slice or mask."""
    return HistogramRecords(
        *(getattr(rows, name)[which] for name in TIMES),
        *(take_histograms(getattr(rows, name), which) for name in STATES),
    )


def ordered_records(parts: list[HistogramRecords]) -> HistogramRecords:
    """Records of several files as one, by (series, end)."""
    if not parts:
        empty = np.empty(0, np.int64)
        none = no_histograms()
        return HistogramRecords(empty, empty, empty, empty, empty, empty, none, none, none)
    columns: list[Any] = [np.concatenate([getattr(one, name) for one in parts]) for name in TIMES]
    columns += [concat_histograms([getattr(one, name) for one in parts]) for name in STATES]
    joined = HistogramRecords(*columns)
    return take_records(joined, np.lexsort((joined.ends_ms, joined.series_ids)))
