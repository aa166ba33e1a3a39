"""From a batch of samples to the parts that a commit names: checked, split, encoded."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.errors import InvalidInputError
from fleet.metrics.labels import REST_BITS, labels_of, labels_text, metric_of, series_id
from fleet.metrics.levels import HOUR_MS, span_starts_ms
from fleet.metrics.samples import SampleBatch, SeriesInfo, distinct
from fleet.metrics.store_log import Counted
from fleet.metrics.store_state import hour_key
from fleet.ports.metric_store import RawPart
from resources.metrics.raw_parts import Samples, deduplicate, encode_samples, take_samples

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array

FUTURE_MAX_MS = HOUR_MS
"""How far ahead of the store's clock a sample may be."""


class EncodedPart(NamedTuple):
    """A raw part and its bytes, not stored yet."""

    part: RawPart
    data: bytes


class Sketching:
    """Metrics whose series have sketches because the settings ask for them.

    Args:
        metrics: their names.
    """

    def __init__(self, metrics: Iterable[str]) -> None:
        """Look at the names only."""
        self._metrics = frozenset(metrics)
        self._prefixes = {series_id(labels_of(one)) >> REST_BITS for one in self._metrics}

    def told(self, series: Mapping[int, SeriesInfo]) -> Mapping[int, SeriesInfo]:
        """What is known of series, with the sketches that they have."""
        changed = {
            one: info._replace(sketched=True)
            for one, info in (series.items() if self._prefixes else ())
            if one >> REST_BITS in self._prefixes and metric_of(info.labels) in self._metrics
        }
        return {**series, **changed} if changed else series


class Accepted(NamedTuple):
    """What of a batch is stored, ordered by (hour, shard, series, time)."""

    samples: Samples
    hours_ms: Int64Array
    shards: Int64Array
    counted: Counted


def validate_batch(batch: SampleBatch) -> Int64Array:
    """The identities in a batch, ascending, when its columns fit together.

    Raises:
        InvalidInputError: columns differ in length or type.
    """
    lengths = {len(batch.series_ids), len(batch.ts_ms), len(batch.values)}
    if len(lengths) != 1:
        raise InvalidInputError("batch", sorted(lengths), "columns of one length")
    kinds = (batch.series_ids.dtype, batch.ts_ms.dtype, batch.values.dtype)
    if kinds != (np.dtype(np.int64), np.dtype(np.int64), np.dtype(np.float64)):
        said = ", ".join(map(str, kinds))
        raise InvalidInputError("batch", said, "int64, int64, float64")
    return distinct(batch.series_ids)


def validate_identity(one: int, info: SeriesInfo) -> None:
    """Accept a series that is filed under the identity of its labels.

    Raises:
        InvalidInputError: it is filed under another one.
    """
    if series_id(info.labels) != one:
        raise InvalidInputError(
            "series_id", one, f"{series_id(info.labels)}, which is {labels_text(info.labels)}"
        )


def accept(
    batch: SampleBatch, shards: int, now_ms: int, floor_ms: int, open_from_ms: int
) -> Accepted:
    """Leave out what cannot be stored, order the rest, keep one of each (series, time).

    Args:
        batch: valid.
        shards: of the store.
        now_ms: by the store's clock.
        floor_ms: hours that begin before it are gone.
        open_from_ms: samples of earlier hours are late.
    """
    ids, ts_ms, values = batch.series_ids, batch.ts_ms, batch.values
    hours = span_starts_ms(ts_ms, HOUR_MS)
    future, expired = ts_ms > now_ms + FUTURE_MAX_MS, hours < floor_ms
    kept = ~(future | expired)
    if not kept.all():
        ids, ts_ms, values, hours = ids[kept], ts_ms[kept], values[kept], hours[kept]
    each = ids % shards
    order = np.lexsort((ts_ms, ids, each, hours))
    ordered = Samples(ids[order], ts_ms[order], values[order])
    found = deduplicate(ordered)
    hours = span_starts_ms(found.samples.ts_ms, HOUR_MS)
    counted = Counted(
        stored=len(hours),
        refused_future=int(np.count_nonzero(future)),
        refused_expired=int(np.count_nonzero(expired & ~future)),
        late=int(np.count_nonzero(hours < open_from_ms)),
        duplicates=found.duplicates,
        conflicts=found.conflicts,
    )
    return Accepted(found.samples, hours, found.samples.ids % shards, counted)


def split(accepted: Accepted) -> Iterator[EncodedPart]:
    """One encoded part for each hour and shard."""
    samples, hours, shards, _ = accepted
    if not len(hours):
        return
    is_first = np.ones(len(hours), np.bool_)
    is_first[1:] = (hours[1:] != hours[:-1]) | (shards[1:] != shards[:-1])
    starts = np.flatnonzero(is_first)
    for start, end in zip(starts, [*starts[1:], len(hours)], strict=True):
        piece = take_samples(samples, slice(start, end))
        data = encode_samples(piece)
        yield EncodedPart(
            raw_part(
                int(hours[start]),
                int(shards[start]),
                data,
                len(piece.ids),
                (int(np.min(piece.ts_ms)), int(np.max(piece.ts_ms))),
            ),
            data,
        )


def raw_part(hour_ms: int, shard: int, data: bytes, rows: int, span_ms: tuple[int, int]) -> RawPart:
    """What the log says of a part with these bytes, under a key that nobody else has."""
    digest = hashlib.sha256(data).hexdigest()
    key = f"raw/{hour_key(hour_ms)}/{shard:04d}/{nonce()}-{digest}.parquet"
    return RawPart(key, shard, hour_ms, rows, len(data), digest, *span_ms)


def nonce() -> str:
    """Makes a key that no other attempt uses."""
    return secrets.token_hex(8)
