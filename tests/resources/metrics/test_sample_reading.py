"""Samples of chosen series out of many parts: whatever was committed when, the last word counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleet.metrics.levels import HOUR_MS
from resources.metrics import raw_parts
from tests.examples import examples
from tests.resources.metrics.metric_stores import NOON_MS, TEN_MS, batch, ident, metric_store

NODES = 3
TIMES = st.integers(1, 10).map(lambda place: TEN_MS + place * HOUR_MS // 5)
VALUES = st.integers(-5, 5).map(float)
ROWS = st.lists(st.tuples(st.integers(0, NODES - 1), TIMES, VALUES), min_size=1)
BATCHES = st.lists(ROWS, min_size=2, max_size=5)
ASKED = st.sets(st.integers(0, NODES), min_size=1)


@given(BATCHES, ASKED, st.tuples(TIMES, TIMES).map(sorted))
@settings(max_examples=examples(60))
@example(
    [[(0, TEN_MS + 2, 1.0)], [(0, TEN_MS + 1, 2.0), (0, TEN_MS + 2, 3.0)]], {0}, [TEN_MS, NOON_MS]
)
def test_samples_of_any_commits_come_by_series_and_time(
    batches: list[list[tuple[int, int, float]]], nodes: set[int], span: list[int]
) -> None:
    """Late, twice, in another order, some series only: one per pair, of two the last committed."""
    start_ms, end_ms = span
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw_parts, "ROW_GROUP_ROWS", 3)
        store = metric_store()
        wanted: dict[tuple[int, int], float] = {}
        for number, rows in enumerate(batches):
            store.append(batch(rows), str(number))
            for node, ts_ms, value in rows:
                if node in nodes and start_ms < ts_ms <= end_ms:
                    wanted[ident("cpu", node), ts_ms] = value
    ids = np.array(sorted(ident("cpu", node) for node in nodes), np.int64)
    found = store.samples(ids, start_ms, end_ms)
    pairs = zip(found.series_ids.tolist(), found.ts_ms.tolist(), strict=True)
    assert list(pairs) == sorted(wanted)
    assert list(map(repr, found.values.tolist())) == [repr(wanted[one]) for one in sorted(wanted)]
