"""A source of samples in memory: what it is given, in pieces of one length."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.errors import InvalidInputError
from fleet.metrics.samples import SampleBatch
from fleet.ports.metric_source import SourcePiece


class InMemoryMetricSource:
    """Samples of one batch; pieces are cut by place."""

    def __init__(self, batch: SampleBatch, piece_samples: int = 1000) -> None:
        """Hold the samples; those that repeat series and time must not be among them."""
        self._batch = batch
        self._piece_samples = piece_samples

    def read(self, start_ms: int, end_ms: int, resume: str = "") -> Iterator[SourcePiece]:
        """See `MetricSource.read`; pieces are named by range and place."""
        if resume and not resume.isdecimal():
            raise InvalidInputError("resume", resume, "that of a piece, unchanged")
        batch, size = self._batch, self._piece_samples
        inside = (batch.ts_ms > start_ms) & (batch.ts_ms <= end_ms)
        ids, ts_ms, values = batch.series_ids[inside], batch.ts_ms[inside], batch.values[inside]
        for number in range(int(resume or 0), -(-len(ids) // size)):
            part = slice(number * size, (number + 1) * size)
            series = {one: batch.series[one] for one in set(ids[part].tolist())}
            piece = SampleBatch(ids[part], ts_ms[part], values[part], series)
            yield SourcePiece(piece, f"memory-{start_ms}-{end_ms}-{number}", str(number + 1))
