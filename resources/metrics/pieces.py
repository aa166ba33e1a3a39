"""How sources put samples together and name what they hand on."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from fleet.metrics.samples import SampleBatch, SeriesInfo, empty_batch


def merged(batches: Sequence[SampleBatch]) -> SampleBatch:
    """All samples of several batches, in their order."""
    import numpy as np

    if not batches:
        return empty_batch()
    series: dict[int, SeriesInfo] = {}
    for batch in batches:
        series.update(batch.series)
    return SampleBatch(
        np.concatenate([batch.series_ids for batch in batches]),
        np.concatenate([batch.ts_ms for batch in batches]),
        np.concatenate([batch.values for batch in batches]),
        series,
    )


def content_name(source: str, batch: SampleBatch) -> str:
    """A name that any batch with the same samples in the same order has, and no other one."""
    digest = blake2b(digest_size=16)
    for column in (batch.series_ids, batch.ts_ms, batch.values):
        digest.update(column.tobytes())
    return f"{source}-{digest.hexdigest()}"
