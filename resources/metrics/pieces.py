"""How sources put samples together and name what they hand on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.metrics.samples import SampleBatch, SeriesInfo, empty_batch
from fleet.ports.metric_source import MetricSource
from fleet.ports.metric_store import MetricStore

if TYPE_CHECKING:
    import numpy.typing as npt

EVER_MS = (0, 2**53)
"""A range that holds every time after 1970."""


class CopiedPiece(NamedTuple):
    """A piece that the store has."""

    samples: int
    commit: int
    """Number of the store's entry; that of an earlier copy where it had the piece already."""
    resume: str
    """Where to go on, should the copy break off behind it."""
    problems: tuple[str, ...]


def copy_samples(
    source: MetricSource,
    store: MetricStore,
    start_ms: int = EVER_MS[0],
    end_ms: int = EVER_MS[1],
    resume: str = "",
) -> Iterator[CopiedPiece]:
    """Copy all samples of (start_ms, end_ms] into a store; each piece is kept once it is yielded.

    A copy that broke off is taken up with the last `resume`, or begun again: pieces are committed
    by their names, so a second copy of the same samples stores nothing.

    Raises:
        SourceUnavailableError: the source broke off; what was yielded is kept.
        LakeUnavailableError: the store did not take a piece; what was yielded is kept.
        InvalidInputError: the source's data, or `resume`, are not what they should be.
    """
    for piece in source.read(start_ms, end_ms, resume):
        commit = store.append(piece.batch, piece.batch_id)
        yield CopiedPiece(len(piece.batch), commit.number, piece.resume, piece.problems)


def merged(batches: Sequence[SampleBatch]) -> SampleBatch:
    """All samples of several batches, in their order."""
    import numpy as np

    if not batches:
        return empty_batch()
    series: dict[int, SeriesInfo] = {}
    for batch in batches:
        series.update(batch.series)
    from fleet.metrics.histogram_columns import concat_samples

    histograms = [batch.histograms for batch in batches if batch.histograms is not None]
    return SampleBatch(
        np.concatenate([batch.series_ids for batch in batches]),
        np.concatenate([batch.ts_ms for batch in batches]),
        np.concatenate([batch.values for batch in batches]),
        series,
        concat_samples(histograms) if histograms else None,
    )


def content_name(source: str, batch: SampleBatch) -> str:
    """A name that any batch with the same samples in the same order has, and no other one."""
    digest = blake2b(digest_size=16)
    columns: list[npt.NDArray[Any]] = [batch.series_ids, batch.ts_ms, batch.values]
    if batch.histograms is not None:
        found = batch.histograms
        columns += [found.series_ids, found.ts_ms, *found.histograms.columns()]
    for column in columns:
        digest.update(column.tobytes())
    return f"{source}-{digest.hexdigest()}"
