"""From the native histograms of a batch to the parts that a commit names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.errors import InvalidInputError
from fleet.metrics.histogram_columns import (
    HistogramSamples,
    concat_samples,
    latest_samples,
    take_histograms,
    take_samples,
    validate_histograms,
)
from fleet.metrics.levels import HOUR_MS, span_starts_ms
from fleet.metrics.samples import distinct, is_stale
from fleet.metrics.store_log import Counted
from fleet.metrics.store_state import hour_key
from fleet.ports.metric_store import RawPart
from resources.metrics.appending import FUTURE_MAX_MS, EncodedPart, nonce
from resources.metrics.histogram_parts import encode_histograms

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array


class AcceptedHistograms(NamedTuple):
    """What of a batch is stored, one of each (series, time)."""

    samples: HistogramSamples
    counted: Counted


def validate_histogram_samples(samples: HistogramSamples) -> Int64Array:
    """The identities in samples, ascending, when columns and histograms keep the rules.

    Raises:
        InvalidInputError: columns differ in length or type, or a histogram breaks a rule.
    """
    lengths = {len(samples.series_ids), len(samples.ts_ms), len(samples.histograms)}
    if len(lengths) != 1:
        raise InvalidInputError("histograms", sorted(lengths), "columns of one length")
    kinds = (samples.series_ids.dtype, samples.ts_ms.dtype)
    if kinds != (np.dtype(np.int64), np.dtype(np.int64)):
        raise InvalidInputError("histograms", ", ".join(map(str, kinds)), "int64, int64")
    stale = is_stale(samples.histograms.totals)
    validate_histograms(take_histograms(samples.histograms, ~stale))
    return distinct(samples.series_ids)


def accept_histograms(
    samples: HistogramSamples, now_ms: int, floor_ms: int, open_from_ms: int
) -> AcceptedHistograms:
    """Leave out what cannot be stored, order the rest, keep one of each (series, time).

    Args:
        samples: valid.
        now_ms: by the store's clock.
        floor_ms: hours that begin before it are gone.
        open_from_ms: samples of earlier hours are late.
    """
    hours = hours_of(samples)
    future, expired = samples.ts_ms > now_ms + FUTURE_MAX_MS, hours < floor_ms
    kept = take_samples(samples, ~(future | expired))
    found = latest_samples(kept)
    counted = Counted(
        stored=len(found),
        refused_future=int(np.count_nonzero(future)),
        refused_expired=int(np.count_nonzero(expired & ~future)),
        late=int(np.count_nonzero(hours_of(found) < open_from_ms)),
        duplicates=len(kept) - len(found),
    )
    return AcceptedHistograms(found, counted)


def hours_of(samples: HistogramSamples) -> Int64Array:
    """Start of the hour (start, end] of each sample."""
    return span_starts_ms(samples.ts_ms, HOUR_MS)


def split_histograms(samples: HistogramSamples, shards: int) -> Iterator[EncodedPart]:
    """One encoded part for each hour and shard; samples are ordered by (series, time)."""
    hours, each = hours_of(samples), samples.series_ids % shards
    order = np.lexsort((each, hours))  # stable: within a place by (series, time)
    hours, each = hours[order], each[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (hours[1:] != hours[:-1]) | (each[1:] != each[:-1])
    starts = np.flatnonzero(is_first).tolist()
    for start, end in zip(starts, [*starts[1:], len(order)], strict=False):
        part = take_samples(samples, order[start:end])
        yield histogram_part(int(hours[start]), int(each[start]), part)


def histogram_part(hour_ms: int, shard: int, samples: HistogramSamples) -> EncodedPart:
    """An encoded part under a key that nobody else has."""
    data = encode_histograms(samples)
    digest = hashlib.sha256(data).hexdigest()
    key = f"histograms/raw/{hour_key(hour_ms)}/{shard:04d}/{nonce()}-{digest}.parquet"
    span_ms = (int(np.min(samples.ts_ms)), int(np.max(samples.ts_ms)))
    part = RawPart(key, shard, hour_ms, len(samples), len(data), digest, *span_ms)
    return EncodedPart(part, data)


def merge_histogram_parts(parts: Sequence[HistogramSamples]) -> HistogramSamples:
    """Samples of several parts in the order of commits; of equal (series, time) the last one's."""
    return parts[0] if len(parts) == 1 else latest_samples(concat_samples(parts))
