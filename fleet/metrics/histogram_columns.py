"""Native histograms in columns: sums, resets and coarser schemas of many at once.

Bucket i of schema s holds values in (2^((i-1) / 2^s), 2^(i / 2^s)]. Histograms are added in the
smallest schema and the widest zero bucket among them. Counts are float64: whole numbers up to 2^53
stay exact, and rates and recorded histograms have fractions.

Source: Prometheus, model/histogram/float_histogram.go (`DetectReset`, `reconcileZeroBuckets`) and
generic.go (`targetIdx`, `getBound`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.errors import InvalidInputError

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

SCHEMA_MIN, SCHEMA_MAX = -4, 8
"""Exponential schemas. Custom bounds (schema -53) have no place here: they are classic buckets."""
KEY_OFFSET = 1 << 20
"""Key of bucket 0 of positive values; indices lie within +-2^19, so keys of positive values are
positive, those of negative values negative, and keys are ordered as values are."""
_FRACTIONS = np.array([2.0 ** (each / 256) for each in range(256)])
"""Bounds between 1 and 2 in the finest schema."""
_COLUMNS = ("schemas", "zero_thresholds", "zero_counts", "observations", "totals")


@dataclass(frozen=True, slots=True, eq=False)
class Histograms:
    """Histograms in columns of one length.

    Attributes:
        schemas: int64, -4 to 8.
        zero_thresholds: float64, half the width of the zero bucket.
        zero_counts: float64, observations in it.
        observations: float64, all of them, NaN among them.
        totals: float64, their sum; the bits of a stale marker where the series ended.
        offsets: int64, one longer: the buckets of histogram i are offsets[i] to offsets[i + 1].
        keys: int64, ascending within a histogram: `KEY_OFFSET` + index of a bucket of positive
            values, the same with a minus of negative ones.
        counts: float64, observations of each bucket, none 0.
    """

    schemas: Int64Array
    zero_thresholds: FloatArray
    zero_counts: FloatArray
    observations: FloatArray
    totals: FloatArray
    offsets: Int64Array
    keys: Int64Array
    counts: FloatArray

    def __len__(self) -> int:
        """Number of histograms."""
        return len(self.schemas)

    def columns(self) -> list[Any]:
        """All columns, in their order."""
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def rows(self) -> Int64Array:
        """Which histogram each bucket belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))


@dataclass(frozen=True, slots=True, eq=False)
class HistogramSamples:
    """Histograms of series at times, in columns of one length."""

    series_ids: Int64Array
    ts_ms: Int64Array
    histograms: Histograms

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.ts_ms)


def no_histograms(count: int = 0) -> Histograms:
    """Histograms without observations, in the finest schema: adding them changes nothing."""
    none = np.zeros(count)
    schemas = np.full(count, SCHEMA_MAX, np.int64)
    empty = np.empty(0, np.int64)
    return Histograms(schemas, none, none, none, none, np.zeros(count + 1, np.int64), empty,
                      np.empty(0))  # fmt: skip


def no_histogram_samples() -> HistogramSamples:
    """No sample."""
    empty = np.empty(0, np.int64)
    return HistogramSamples(empty, empty, no_histograms())


def validate_histograms(found: Histograms) -> None:
    """Accept histograms that keep the rules; stale markers have no buckets and are accepted.

    Raises:
        InvalidInputError: columns do not fit together, or a schema, threshold, key or count is out
            of range.
    """
    lengths = {len(getattr(found, name)) for name in _COLUMNS} | {len(found.offsets) - 1}
    if len(lengths) != 1 or len(found.keys) != len(found.counts):
        raise InvalidInputError("histograms", sorted(lengths), "columns of one length")
    rules: dict[str, tuple[Any, Any, str]] = {
        "schema": (found.schemas, (found.schemas >= SCHEMA_MIN) & (found.schemas <= SCHEMA_MAX),
                   f"{SCHEMA_MIN} to {SCHEMA_MAX}"),
        "zero_threshold": (found.zero_thresholds,
                           (found.zero_thresholds >= 0) & np.isfinite(found.zero_thresholds),
                           "0 or more, finite"),
        "zero_count": (found.zero_counts, found.zero_counts >= 0, "0 observations or more"),
        "observations": (found.observations, found.observations >= 0, "0 or more"),
        "bucket": (found.counts, found.counts > 0, "more than 0 observations"),
        "key": (found.keys, (np.abs(found.keys) > KEY_OFFSET // 2)
                & (np.abs(found.keys) < 2 * KEY_OFFSET), "index of a bucket"),
    }  # fmt: skip
    for field, (values, right, allowed) in rules.items():
        if not right.all():
            raise InvalidInputError(field, values[int(np.argmin(right))], allowed)
    rows = found.rows()
    if ((np.diff(found.keys) <= 0) & (np.diff(rows) == 0)).any():
        raise InvalidInputError("key", "buckets", "ascending within a histogram, none twice")


def take_histograms(found: Histograms, which: Any) -> Histograms:
    """Some histograms: by index, slice or mask."""
    rows = np.arange(len(found))[which]
    sizes = np.diff(found.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    at = np.arange(int(offsets[-1])) + np.repeat(found.offsets[rows] - offsets[:-1], sizes)
    return Histograms(
        found.schemas[rows],
        found.zero_thresholds[rows],
        found.zero_counts[rows],
        found.observations[rows],
        found.totals[rows],
        offsets,
        found.keys[at],
        found.counts[at],
    )


def concat_histograms(parts: Sequence[Histograms]) -> Histograms:
    """Histograms one after another."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return no_histograms()
    sizes = np.concatenate([np.diff(one.offsets) for one in parts])
    return Histograms(
        np.concatenate([one.schemas for one in parts]),
        np.concatenate([one.zero_thresholds for one in parts]),
        np.concatenate([one.zero_counts for one in parts]),
        np.concatenate([one.observations for one in parts]),
        np.concatenate([one.totals for one in parts]),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([one.keys for one in parts]),
        np.concatenate([one.counts for one in parts]),
    )


def take_samples(samples: HistogramSamples, which: Any) -> HistogramSamples:
    """Some samples: by index, slice or mask."""
    return HistogramSamples(
        samples.series_ids[which], samples.ts_ms[which], take_histograms(samples.histograms, which)
    )


def concat_samples(parts: Sequence[HistogramSamples]) -> HistogramSamples:
    """Samples one after another."""
    if not parts:
        return no_histogram_samples()
    return HistogramSamples(
        np.concatenate([one.series_ids for one in parts]),
        np.concatenate([one.ts_ms for one in parts]),
        concat_histograms([one.histograms for one in parts]),
    )


def latest_samples(samples: HistogramSamples) -> HistogramSamples:
    """By (series, time), one for each pair: the last that was given."""
    order = np.lexsort((samples.ts_ms, samples.series_ids))
    ids, ts_ms = samples.series_ids[order], samples.ts_ms[order]
    last = np.ones(len(order), np.bool_)
    last[:-1] = (ids[1:] != ids[:-1]) | (ts_ms[1:] != ts_ms[:-1])
    return take_samples(samples, order[last])


def upper_bounds(indices: Int64Array, schemas: Int64Array) -> FloatArray:
    """Upper bound of buckets of positive values; of the last before infinity the largest double."""
    fine = indices << (SCHEMA_MAX - schemas)
    exponents = fine >> 8
    with np.errstate(over="ignore"):
        bounds = np.ldexp(_FRACTIONS[fine & 255], np.minimum(exponents, 1025).astype(np.int32))
    found: FloatArray = np.where(fine == 1024 << 8, np.finfo(np.float64).max, bounds)
    return found


def bucket_bounds(found: Histograms) -> tuple[FloatArray, FloatArray]:
    """Lower and upper bound of each bucket."""
    index = np.abs(found.keys) - KEY_OFFSET
    schemas = np.repeat(found.schemas, np.diff(found.offsets))
    near, far = upper_bounds(index - 1, schemas), upper_bounds(index, schemas)
    negative = found.keys < 0
    return np.where(negative, -far, near), np.where(negative, -near, far)


def reduce_resolution(found: Histograms, schemas: Int64Array) -> Histograms:
    """The same observations in coarser schemas.

    Args:
        found: histograms.
        schemas: one for each, none finer than its own.

    Raises:
        InvalidInputError: one is finer: detail cannot be added.
    """
    finer = schemas > found.schemas
    if finer.any():
        at = int(np.argmax(finer))
        allowed = f"at most {found.schemas[at]}: detail cannot be added"
        raise InvalidInputError("schema", int(schemas[at]), allowed)
    if (schemas == found.schemas).all():
        return found
    rows = found.rows()
    shift = (found.schemas - schemas)[rows]
    index = np.abs(found.keys) - KEY_OFFSET
    coarse = ((index - 1) >> shift) + 1 + KEY_OFFSET
    # the order of buckets within a histogram stays as it is
    keys = np.where(found.keys < 0, -coarse, coarse)
    return replace(found, schemas=schemas, **_collected(rows, keys, found.counts, len(found)))


def widen_zero(found: Histograms, thresholds: FloatArray) -> Histograms:
    """The same observations with zero buckets at least as wide.

    A threshold inside a populated bucket is raised to the bucket's upper bound, because the bucket
    cannot be divided.
    """
    wanted = np.maximum(thresholds, found.zero_thresholds)
    wider = wanted > found.zero_thresholds
    if not wider.any():
        return found
    rows = found.rows()
    index = np.abs(found.keys) - KEY_OFFSET
    near = upper_bounds(index - 1, found.schemas[rows])
    far = upper_bounds(index, found.schemas[rows])
    while True:
        inside = wider[rows] & (near < wanted[rows])
        raised = wanted.copy()
        np.maximum.at(raised, rows[inside], far[inside])
        if (raised == wanted).all():
            break
        wanted = raised
    taken = np.bincount(rows[inside], found.counts[inside], len(found))
    left = ~inside
    return replace(
        found,
        zero_thresholds=wanted,
        zero_counts=found.zero_counts + taken,
        **_collected(rows[left], found.keys[left], found.counts[left], len(found)),
    )


def sum_groups(
    found: Histograms, groups: Int64Array, count: int, weights: FloatArray | None = None
) -> Histograms:
    """The (weighted) sum of the histograms of each group, added in their order.

    Args:
        found: histograms.
        groups: which group each belongs to, 0 to `count` - 1; one without any has no observations.
        count: of groups.
        weights: of each histogram: -1 subtracts it; None adds all.
    """
    wanted = np.zeros(count)
    np.maximum.at(wanted, groups, found.zero_thresholds)
    while (found.zero_thresholds != wanted[groups]).any():
        found = widen_zero(found, wanted[groups])
        np.maximum.at(wanted, groups, found.zero_thresholds)
    schemas = np.full(count, SCHEMA_MAX, np.int64)
    np.minimum.at(schemas, groups, found.schemas)
    found = reduce_resolution(found, schemas[groups])
    if weights is not None:
        found = scaled(found, weights)
    rows = groups[found.rows()]
    order = np.lexsort((found.keys, rows))
    buckets = _collected(rows[order], found.keys[order], found.counts[order], count)
    return Histograms(
        schemas,
        wanted,
        _sums(groups, found.zero_counts, count),
        _sums(groups, found.observations, count),
        _sums(groups, found.totals, count),
        **buckets,
    )


def _sums(groups: Int64Array, values: FloatArray, count: int) -> FloatArray:
    """Sums of each group, added in order."""
    return np.bincount(groups, values, count).astype(np.float64, copy=False)


def scaled(found: Histograms, factors: FloatArray) -> Histograms:
    """Each histogram times its factor."""
    return replace(
        found,
        zero_counts=found.zero_counts * factors,
        observations=found.observations * factors,
        totals=found.totals * factors,
        counts=found.counts * np.repeat(factors, np.diff(found.offsets)),
    )


def are_resets(now: Histograms, before: Histograms) -> BoolArray:
    """Whether a counter began anew between each histogram and the one before it.

    A coarser schema or a wider zero bucket alone is none: that is how a histogram saves memory. A
    finer schema, a narrower zero bucket, or any bucket that lost observations is one.

    Args:
        now: histograms.
        before: as many.
    """
    finer = now.schemas > before.schemas
    fell = finer | (now.observations < before.observations)
    fell |= now.zero_thresholds < before.zero_thresholds
    wide = widen_zero(before, now.zero_thresholds)
    fell |= wide.zero_thresholds != now.zero_thresholds
    fell |= now.zero_counts < wide.zero_counts
    wide = reduce_resolution(wide, np.minimum(now.schemas, before.schemas))
    rows = np.concatenate([now.rows(), wide.rows()])
    keys = np.concatenate([now.keys, wide.keys])
    order = np.lexsort((keys, rows))
    grown = np.concatenate([now.counts, -wide.counts])[order]
    starts = _starts(rows[order], keys[order])
    if len(starts):
        lost = np.add.reduceat(grown, starts) < 0
        fell[rows[order][starts[lost]]] = True
    return fell


def are_equal(one: Histograms, other: Histograms) -> BoolArray:
    """Which histograms are the same in resolution, zero bucket, buckets, count and bits of the sum.

    Args:
        one: histograms.
        other: as many.
    """
    same: BoolArray = (one.schemas == other.schemas) & (one.observations == other.observations)
    same &= one.zero_thresholds == other.zero_thresholds
    same &= one.zero_counts == other.zero_counts
    same &= one.totals.view(np.int64) == other.totals.view(np.int64)
    rows = np.concatenate([one.rows(), other.rows()])
    keys = np.concatenate([one.keys, other.keys])
    order = np.lexsort((keys, rows))
    gone = np.concatenate([one.counts, -other.counts])[order]
    starts = _starts(rows[order], keys[order])
    if len(starts):
        same[rows[order][starts[np.add.reduceat(gone, starts) != 0]]] = False
    return same


def _starts(rows: Int64Array, keys: Int64Array) -> Int64Array:
    """Where row or key differ from the bucket before."""
    is_new = np.ones(len(rows), np.bool_)
    is_new[1:] = (rows[1:] != rows[:-1]) | (keys[1:] != keys[:-1])
    return np.flatnonzero(is_new)


def _collected(
    rows: Int64Array, keys: Int64Array, counts: FloatArray, count: int
) -> dict[str, Any]:
    """Buckets ordered by (row, key) with equal ones added and empty ones left out."""
    starts = _starts(rows, keys)
    if len(starts):
        counts = np.add.reduceat(counts, starts)
    rows, keys = rows[starts], keys[starts]
    kept = counts != 0
    sizes = np.bincount(rows[kept], minlength=count)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return {"offsets": offsets, "keys": keys[kept], "counts": counts[kept]}
