"""Copying a source into a store: every sample once, whatever breaks off between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from fleet.errors import LakeUnavailableError
from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.samples import SampleBatch, SeriesInfo
from fleet.ports.metric_store import RawCommit
from resources.metrics.pieces import copy_samples, merged
from tests.fakes.metric_source import InMemoryMetricSource


class Log:
    """The writing half of a store: commits by name; may refuse."""

    def __init__(self) -> None:
        """Empty."""
        self.committed: dict[str, SampleBatch] = {}
        self.refuses_at = 0
        self.asked = 0

    def append(self, batch: SampleBatch, batch_id: str) -> RawCommit:
        """Keep a batch once."""
        self.asked += 1
        if self.asked == self.refuses_at:
            raise LakeUnavailableError("disk full")
        self.committed.setdefault(batch_id, batch)
        number = list(self.committed).index(batch_id) + 1
        return RawCommit(number, batch_id, "w", datetime(2026, 1, 1, tzinfo=UTC), ())

    def commits(self, after: int = 0) -> Sequence[RawCommit]:
        """Not asked here."""
        raise AssertionError(after)


def samples(count: int) -> SampleBatch:
    """One series."""
    labels = labels_of("a")
    ids = np.full(count, series_id(labels), np.int64)
    infos = {series_id(labels): SeriesInfo(labels)}
    return SampleBatch(ids, np.arange(1, count + 1), np.arange(count) * 1.0, infos)


def test_a_copy_that_broke_off_goes_on_or_begins_again() -> None:
    """Both end with every sample once."""
    source = InMemoryMetricSource(samples(95), 10)
    for again in (False, True):
        log: Any = Log()
        log.refuses_at = 5
        done = []
        pieces = copy_samples(source, log)
        done = [next(pieces) for _ in range(4)]
        with pytest.raises(LakeUnavailableError):
            next(pieces)
        assert [piece.samples for piece in done] == [10] * 4
        rest = list(copy_samples(source, log, resume="" if again else done[-1].resume))
        assert [piece.commit for piece in rest] == list(range(1 if again else 5, 11))
        assert len(merged(list(log.committed.values()))) == 95


def test_batches_are_merged_in_their_order() -> None:
    """None of them is an empty batch."""
    assert len(merged([])) == 0
    both = merged([samples(2), samples(1)])
    assert both.ts_ms.tolist() == [1, 2, 1]
    assert len(both.series) == 1
