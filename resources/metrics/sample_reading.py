"""Raw samples of chosen series, put together from many parts without sorting their rows.

A part is ordered by (series, time), and parts mostly follow one another in time. So what each part
has of a series is laid behind what earlier ones had; rows are sorted only where times of a series
do not rise then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.ports.metric_store import RawPart
from resources.metrics.raw_parts import Samples, deduplicate, open_samples, take_samples
from resources.metrics.series_ranges import places_of, series_starts

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from fleet.metrics.samples import FloatArray, Int64Array


class _Found(NamedTuple):
    """What one part has of the series asked for."""

    places: Int64Array
    """Of its series among those asked for, ascending."""
    counts: Int64Array
    """Samples of each."""
    ts_ms: Int64Array
    values: FloatArray


def read_samples(
    parts: Iterable[RawPart],
    open_part: Callable[[RawPart], pq.ParquetFile],
    ids: Int64Array,
    shards: int,
    start_ms: int,
    end_ms: int,
) -> Samples:
    """Samples in (start_ms, end_ms], one per (series, time); of several the last part's.

    Args:
        parts: of shards of these series, by hour, and of each hour in the order of commits.
        open_part: opens the file of one.
        ids: series, ascending, none twice.
        shards: how the store is divided.
        start_ms: excluded.
        end_ms: included.
    """
    places = {shard: np.flatnonzero(ids % shards == shard) for shard in shards_of(ids, shards)}
    found = []
    for part in parts:
        if part.max_ts_ms <= start_ms or part.min_ts_ms > end_ms:
            continue
        at = places[part.shard]
        samples = Samples(*open_samples(open_part(part)).read_ids(ids[at]))
        if part.min_ts_ms <= start_ms or part.max_ts_ms > end_ms:
            inside = (samples.ts_ms > start_ms) & (samples.ts_ms <= end_ms)
            samples = take_samples(samples, inside)
        if len(samples.ids):
            found.append(_found(samples, ids[at], at))
    return _in_order(_laid_out(found, ids))


def shards_of(ids: Int64Array, shards: int) -> list[int]:
    """Shards in which some series lie, ascending."""
    found: list[int] = np.flatnonzero(np.bincount(ids % shards, minlength=shards)).tolist()
    return found


def _found(samples: Samples, ids: Int64Array, at: Int64Array) -> _Found:
    """What a part has; `at` are the places of `ids`, its shard's, among all that are asked for."""
    starts = series_starts(samples.ids)
    counts = np.diff(starts, append=len(samples.ids))
    return _Found(at[places_of(samples.ids[starts], ids)], counts, samples.ts_ms, samples.values)


def _laid_out(found: list[_Found], ids: Int64Array) -> Samples:
    """Samples series by series, those of one series in the order of the parts; empties `found`."""
    counts = np.zeros(len(ids), np.int64)
    for one in found:
        counts[one.places] += one.counts
    free = np.cumsum(counts) - counts
    ts_ms, values = np.empty(int(counts.sum()), np.int64), np.empty(int(counts.sum()))
    # first to last: what is laid out need not be held twice
    found.reverse()
    while found:
        one = found.pop()
        rows = free[one.places]
        if len(one.ts_ms) > len(one.places):
            rows = np.repeat(rows - (np.cumsum(one.counts) - one.counts), one.counts)
            rows += np.arange(len(one.ts_ms))
        ts_ms[rows], values[rows] = one.ts_ms, one.values
        free[one.places] += one.counts
    return Samples(np.repeat(ids, counts), ts_ms, values)


def _in_order(samples: Samples) -> Samples:
    """The same where times rise; else sorted, the last of equal (series, time) kept."""
    ids, ts_ms, _ = samples
    late = (ts_ms[1:] <= ts_ms[:-1]) & (ids[1:] == ids[:-1])
    if not late.any():
        return samples
    return deduplicate(take_samples(samples, np.lexsort((ts_ms, ids)))).samples
