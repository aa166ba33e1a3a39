"""Native histograms one by one, in dictionaries: the twin of `fleet.metrics.histogram_columns`.

Bucket i of a schema s holds values in (2^((i-1) / 2^s), 2^(i / 2^s)]. Two histograms are added in
the smaller schema of both and the larger zero threshold. Counters of them are reset where any
bucket, the count or the resolution goes against what a counter can do.

Source: Prometheus, model/histogram/float_histogram.go (`DetectReset`, `reconcileZeroBuckets`) and
generic.go (`targetIdx`, spans and deltas).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fleet.errors import InvalidInputError
from fleet.metrics.histogram_columns import KEY_OFFSET, Histograms
from fleet.metrics.histogram_records import HistogramRecords

SCHEMA_MIN, SCHEMA_MAX = -4, 8
"""Exponential schemas. Custom bounds (schema -53) are classic buckets and stored as series."""


class Spans(NamedTuple):
    """Populated buckets as Prometheus writes them."""

    offsets: tuple[int, ...]
    """Of the first span its first index; of each other the gap before it."""
    lengths: tuple[int, ...]
    deltas: tuple[int, ...]
    """Count of each bucket as difference from the one before it in the spans."""


class NativeHistogram(NamedTuple):
    """One histogram; of a counter the observations since its start."""

    schema: int
    zero_threshold: float
    zero_count: int
    observations: int
    total: float
    """Sum of the observations."""
    positive: Mapping[int, int]
    """Index of a bucket to its observations, none 0."""
    negative: Mapping[int, int]


class HistogramRecord(NamedTuple):
    """What a bucket of time keeps of a series of histograms; neighbours merge exactly."""

    n: int
    first_ms: int
    first: NativeHistogram
    last_ms: int
    last: NativeHistogram
    reset_sum: NativeHistogram | None
    """Sum of the histograms right before each reset; None without one."""
    resets: int


def target_index(index: int, schema: int, target: int) -> int:
    """The bucket of a coarser schema that holds a bucket of a finer one."""
    return ((index - 1) >> (schema - target)) + 1


def upper_bound(index: int, schema: int) -> float:
    """Upper bound of a positive bucket; infinite beyond the range of doubles."""
    exponent = index * 2.0**-schema
    if exponent == 1024:
        return float(np.finfo(np.float64).max)
    return 2.0**exponent if exponent < 1024 else float("inf")


def reduce_resolution(one: NativeHistogram, schema: int) -> NativeHistogram:
    """The same observations in a coarser schema.

    Raises:
        InvalidInputError: the schema is finer than the histogram's.
    """
    if schema > one.schema:
        raise InvalidInputError("schema", schema, f"at most {one.schema}: detail cannot be added")
    if schema == one.schema:
        return one
    return one._replace(
        schema=schema,
        positive=_coarser(one.positive, one.schema, schema),
        negative=_coarser(one.negative, one.schema, schema),
    )


def widen_zero(one: NativeHistogram, threshold: float) -> NativeHistogram:
    """The same observations with a larger zero bucket.

    A threshold inside a populated bucket is raised to the bucket's upper bound, because the bucket
    cannot be divided; compare `zero_threshold` of the result with what was asked for.
    """
    while True:
        taken, raised = 0, threshold
        left: list[dict[int, int]] = []
        for side in (one.positive, one.negative):
            kept = {}
            for index in sorted(side):
                if upper_bound(index - 1, one.schema) >= threshold:
                    kept[index] = side[index]
                    continue
                taken += side[index]
                raised = max(raised, upper_bound(index, one.schema))
            left.append(kept)
        if raised == threshold or threshold <= one.zero_threshold:
            break
        threshold = raised
    if threshold <= one.zero_threshold:
        return one
    return one._replace(
        zero_threshold=threshold,
        zero_count=one.zero_count + taken,
        positive=left[0],
        negative=left[1],
    )


def add(one: NativeHistogram, other: NativeHistogram) -> NativeHistogram:
    """Both histograms' observations, in the smaller schema and the larger zero bucket."""
    one, other = _reconciled(one, other)
    return NativeHistogram(
        one.schema,
        one.zero_threshold,
        one.zero_count + other.zero_count,
        one.observations + other.observations,
        one.total + other.total,
        _added(one.positive, other.positive, 1),
        _added(one.negative, other.negative, 1),
    )


def subtract(one: NativeHistogram, other: NativeHistogram) -> NativeHistogram:
    """What `one` counted beyond `other`, an earlier state of the same counter."""
    one, other = _reconciled(one, other)
    return NativeHistogram(
        one.schema,
        one.zero_threshold,
        one.zero_count - other.zero_count,
        one.observations - other.observations,
        one.total - other.total,
        _added(one.positive, other.positive, -1),
        _added(one.negative, other.negative, -1),
    )


def is_reset(now: NativeHistogram, before: NativeHistogram) -> bool:
    """Whether a counter began anew between two of its histograms.

    A coarser schema or a wider zero bucket alone is none: that is how a histogram saves memory. A
    finer schema, a narrower zero bucket, or any bucket that lost observations is one.
    """
    if now.observations < before.observations or now.schema > before.schema:
        return True
    if now.zero_threshold < before.zero_threshold:
        return True
    before = widen_zero(before, now.zero_threshold)
    if before.zero_threshold != now.zero_threshold or now.zero_count < before.zero_count:
        return True
    before = reduce_resolution(before, now.schema)
    return any(
        new.get(index, 0) < count
        for new, old in ((now.positive, before.positive), (now.negative, before.negative))
        for index, count in old.items()
    )


def record_of(ts_ms: int, one: NativeHistogram) -> HistogramRecord:
    """The record of one histogram."""
    return HistogramRecord(1, ts_ms, one, ts_ms, one, None, 0)


def merge_records(earlier: HistogramRecord, later: HistogramRecord) -> HistogramRecord:
    """The record of both spans of time."""
    reset_sum = _sum_of(earlier.reset_sum, later.reset_sum)
    resets = earlier.resets + later.resets
    if is_reset(later.first, earlier.last):
        reset_sum = _sum_of(reset_sum, earlier.last)
        resets += 1
    return HistogramRecord(
        earlier.n + later.n,
        earlier.first_ms,
        earlier.first,
        later.last_ms,
        later.last,
        reset_sum,
        resets,
    )


def roll_up_histograms(
    samples: Sequence[tuple[int, NativeHistogram]], length_ms: int
) -> dict[int, HistogramRecord]:
    """Records of one series by the end of their bucket.

    Args:
        samples: (ts_ms, histogram), ascending, no time twice.
        length_ms: of the buckets, (start, end].
    """
    records: dict[int, HistogramRecord] = {}
    for ts_ms, one in samples:
        end = -(-ts_ms // length_ms) * length_ms
        new = record_of(ts_ms, one)
        records[end] = merge_records(records[end], new) if end in records else new
    return records


def increase(record: HistogramRecord) -> NativeHistogram:
    """What the counter counted between the first and the last histogram, over all resets."""
    grown = record.last if record.reset_sum is None else add(record.last, record.reset_sum)
    return subtract(grown, record.first)


def to_spans(buckets: Mapping[int, int]) -> Spans:
    """Populated buckets as spans and deltas."""
    indices = sorted(buckets)
    if not indices:
        return Spans((), (), ())
    breaks = [at for at, (a, b) in enumerate(pairwise(indices), start=1) if b != a + 1]
    firsts = [0, *breaks]
    lengths = [b - a for a, b in pairwise([*firsts, len(indices)])]
    offsets = [indices[0]]
    offsets += [indices[at] - indices[at - 1] - 1 for at in breaks]
    counts = [buckets[index] for index in indices]
    deltas = [b - a for a, b in pairwise([0, *counts])]
    return Spans(tuple(offsets), tuple(lengths), tuple(deltas))


def _coarser(buckets: Mapping[int, int], schema: int, target: int) -> dict[int, int]:
    merged: dict[int, int] = {}
    for index, count in buckets.items():
        into = target_index(index, schema, target)
        merged[into] = merged.get(into, 0) + count
    return merged


def _reconciled(
    one: NativeHistogram, other: NativeHistogram
) -> tuple[NativeHistogram, NativeHistogram]:
    """Both with one zero threshold and one schema; the threshold first, where detail is finer."""
    while one.zero_threshold != other.zero_threshold:
        threshold = max(one.zero_threshold, other.zero_threshold)
        one, other = widen_zero(one, threshold), widen_zero(other, threshold)
    schema = min(one.schema, other.schema)
    return reduce_resolution(one, schema), reduce_resolution(other, schema)


def _added(one: Mapping[int, int], other: Mapping[int, int], sign: int) -> dict[int, int]:
    summed = dict(one)
    for index, count in other.items():
        summed[index] = summed.get(index, 0) + sign * count
    return {index: count for index, count in summed.items() if count}


def _sum_of(*histograms: NativeHistogram | None) -> NativeHistogram | None:
    there: Iterable[NativeHistogram] = (one for one in histograms if one is not None)
    total: NativeHistogram | None = None
    for one in there:
        total = one if total is None else add(total, one)
    return total


def in_columns(several: Sequence[NativeHistogram]) -> Histograms:
    """Histograms as columns."""
    buckets = [
        [(-KEY_OFFSET - index, one.negative[index]) for index in sorted(one.negative)][::-1]
        + [(KEY_OFFSET + index, one.positive[index]) for index in sorted(one.positive)]
        for one in several
    ]
    offsets = np.cumsum([0, *map(len, buckets)]).astype(np.int64)
    keys = np.array([key for some in buckets for key, _ in some], np.int64)
    counts = np.array([count for some in buckets for _, count in some], np.float64)
    floats = (
        np.array([getattr(one, name) for one in several], np.float64)
        for name in ("zero_threshold", "zero_count", "observations", "total")
    )
    schemas = np.array([one.schema for one in several], np.int64)
    return Histograms(schemas, *floats, offsets, keys, counts)


def one_by_one(columns: Histograms) -> list[NativeHistogram]:
    """Columns as histograms."""
    found = []
    for at in range(len(columns)):
        some = slice(columns.offsets[at], columns.offsets[at + 1])
        pairs = list(zip(columns.keys[some].tolist(), columns.counts[some].tolist(), strict=True))
        found.append(
            NativeHistogram(
                int(columns.schemas[at]),
                float(columns.zero_thresholds[at]),
                columns.zero_counts[at],
                columns.observations[at],
                float(columns.totals[at]),
                {key - KEY_OFFSET: count for key, count in pairs if key > 0},
                {-key - KEY_OFFSET: count for key, count in pairs if key < 0},
            )
        )
    return found


NOTHING = NativeHistogram(8, 0.0, 0, 0, 0.0, {}, {})
"""What `reset_sum` holds in columns where there was no reset."""


def records_in_columns(several: Sequence[tuple[int, int, HistogramRecord]]) -> HistogramRecords:
    """Records as columns: (series, end, record), in order."""
    whole = [
        (series, end, one.n, one.first_ms, one.last_ms, one.resets) for series, end, one in several
    ]
    columns = np.array(whole, np.int64).reshape(-1, 6).T
    return HistogramRecords(
        *(np.ascontiguousarray(column) for column in columns),
        in_columns([one.first for _, _, one in several]),
        in_columns([one.last for _, _, one in several]),
        in_columns([one.reset_sum or NOTHING for _, _, one in several]),
    )
