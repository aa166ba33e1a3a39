"""Stale markers, and the borders of buckets."""

from __future__ import annotations

import numpy as np

from fleet.metrics.levels import HOUR_MS, Level, bucket_ends_ms, span_start_ms
from fleet.metrics.samples import empty_batch, is_stale, stale_marker


def test_a_stale_marker_is_told_from_nan_by_its_bits() -> None:
    """Both are NaN to arithmetic."""
    values = np.array([1.0, float("nan"), stale_marker(), float("inf")])
    assert is_stale(values).tolist() == [False, False, True, False]
    assert np.isnan(stale_marker())
    assert len(empty_batch()) == 0


def test_a_sample_at_a_border_belongs_to_the_bucket_that_ends_there() -> None:
    """Buckets are (start, end]."""
    ts_ms = np.array([0, 1, 59_999, 60_000, 60_001])
    assert bucket_ends_ms(ts_ms, Level.M1).tolist() == [0, 60_000, 60_000, 60_000, 120_000]
    assert span_start_ms(HOUR_MS, HOUR_MS) == 0
    assert span_start_ms(HOUR_MS + 1, HOUR_MS) == HOUR_MS


def test_each_level_divides_the_next_and_its_partition() -> None:
    """So that a record of a level is made of whole records of the one below."""
    for finer, coarser in zip(list(Level), list(Level)[1:], strict=False):
        assert coarser % finer == 0
    assert [level.asset for level in Level] == ["rollup_1m", "rollup_5m", "rollup_1h", "rollup_1d"]
    assert all(level.partition_ms % level == 0 for level in Level)
