"""Samples in memory before a store: one or the other answers, and both would say the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fleet.metrics.labels import Matcher, MatchKind, labels_of, series_id
from fleet.metrics.memory_series import MemorySeries
from fleet.metrics.recent_samples import RecentSamples
from fleet.metrics.samples import SampleBatch, SeriesInfo

SERIES = [labels_of("up", {"node": str(i)}) for i in range(4)] + [labels_of("load", {"node": "0"})]
IDS = [series_id(one) for one in SERIES]
BEGAN_MS, HELD_MS = 1_000, 500
SAMPLES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1_001, 3_000), st.integers(0, 9)), max_size=30
)
UP = [Matcher("__name__", MatchKind.EQUAL, "up")]


def _batch(samples: list[tuple[int, int, int]]) -> SampleBatch:
    return SampleBatch(
        np.array([IDS[which] for which, _, _ in samples], np.int64),
        np.array([ts_ms for _, ts_ms, _ in samples], np.int64),
        np.array([value for _, _, value in samples], np.float64),
        {IDS[which]: SeriesInfo(SERIES[which]) for which, _, _ in samples},
    )


def _put(store: MemorySeries, samples: list[tuple[int, int, int]]) -> None:
    for which, ts_ms, value in samples:
        store.put(SERIES[which], ts_ms, float(value))


@given(st.lists(SAMPLES, max_size=5), st.integers(1_000, 3_000), st.integers(1, 600))
def test_memory_answers_as_the_store_that_has_the_same_would(
    batches: list[list[tuple[int, int, int]]], start_ms: int, length_ms: int
) -> None:
    """In any order, with repetitions, before and after what is held."""
    store = MemorySeries()
    recent = RecentSamples(store, BEGAN_MS, HELD_MS)
    now_ms = BEGAN_MS
    for batch in batches:
        now_ms = max([now_ms, *(ts_ms for _, ts_ms, _ in batch)])
        _put(store, batch)
        recent.add(_batch(batch))
        recent.forget(now_ms)
    wanted = np.array(IDS, np.int64)
    end_ms = start_ms + length_ms
    ours, theirs = (one.samples(wanted, start_ms, end_ms) for one in (recent, store))
    assert ours.series_ids.tolist() == theirs.series_ids.tolist()
    assert ours.ts_ms.tolist() == theirs.ts_ms.tolist()
    assert ours.values.tolist() == theirs.values.tolist()
    chosen = recent.select(UP, start_ms, end_ms).ids.tolist()
    assert set(theirs.series_ids.tolist()) & set(IDS[:4]) <= set(chosen) <= set(IDS[:4])


def test_what_began_before_memory_is_asked_of_the_store_alone() -> None:
    """Never half of each: a window that reaches back further is whole in the store."""
    store = MemorySeries()
    _put(store, [(0, 900, 1)])
    recent = RecentSamples(store, BEGAN_MS)
    recent.add(_batch([(0, 1_500, 2)]))
    both = recent.samples(np.array(IDS, np.int64), 800, 2_000)
    assert both.ts_ms.tolist() == [900]
    held = recent.samples(np.array(IDS, np.int64), 1_000, 2_000)
    assert held.ts_ms.tolist() == [1_500]
    assert recent.keeps_raw(1_000, 2_000)


def test_memory_is_bounded_by_time_and_forgets_series_that_ended() -> None:
    """A fleet whose series come and go for ever needs no more room."""
    recent = RecentSamples(MemorySeries(), 0, HELD_MS)
    for number in range(50):
        recent.add(_batch([(number % 4, 1_001 + number * 100, number)]))
        recent.forget(1_001 + number * 100)
    assert len(recent) == 5
    assert len(recent.select(UP, 10_000, 11_000).ids) == 4
    recent.forget(100_000)
    assert len(recent) == 0
    assert len(recent.select((), 100_000, 110_000).ids) == 0


def test_memory_is_bounded_by_samples_and_the_store_answers_what_no_longer_fits() -> None:
    """A large fleet is watched over less time in memory; no answer changes by it."""
    store = MemorySeries()
    recent = RecentSamples(store, 0, held_max=100)
    for moment in range(1, 61):
        samples = [(which, 1_000 * moment, moment) for which in range(4)]
        _put(store, samples)
        recent.add(_batch(samples))
        recent.forget(1_000 * moment)
        assert len(recent) <= 100
    wanted = np.array(IDS, np.int64)
    for start_ms in (0, 30_000, 50_000):
        ours, theirs = (one.samples(wanted, start_ms, 60_000) for one in (recent, store))
        assert ours.ts_ms.tolist() == theirs.ts_ms.tolist()


def test_a_series_is_found_once_it_is_explained_and_as_it_was_explained_last() -> None:
    """A batch may leave out what its series are; what was asked before is no longer the answer."""
    recent = RecentSamples(MemorySeries(), 0, HELD_MS)
    batch = _batch([(which, 1_001, 1) for which in (0, 1)])
    recent.add(SampleBatch(batch.series_ids, batch.ts_ms, batch.values))
    assert recent.unexplained(batch.series_ids).tolist() == sorted(IDS[:2])
    assert recent.select(UP, 1_000, 2_000).ids.tolist() == []
    recent.explain(batch.series, batch.series_ids[:1])
    assert recent.unexplained(batch.series_ids).tolist() == [IDS[1]]
    assert recent.select(UP, 1_000, 2_000).ids.tolist() == [IDS[0]]
    recent.add(batch)
    assert recent.select(UP, 1_000, 2_000).ids.tolist() == sorted(IDS[:2])
    told = {IDS[0]: SeriesInfo(SERIES[0], help="Whether it is up.")}
    recent.explain(told, batch.series_ids)
    found = recent.select(UP, 1_000, 2_000)
    helps = [info.help for one, info in zip(found.ids.tolist(), found.infos, strict=True)]
    assert sorted(helps) == ["", "Whether it is up."]


def test_a_series_that_went_and_came_again_has_to_be_explained_again() -> None:
    """What is held of series is bounded by those that have samples."""
    recent = RecentSamples(MemorySeries(), 0, HELD_MS)
    for moment in range(2):
        recent.add(_batch([(0, 1_001 + moment * 1_000, 1), (4, 1_001 + moment * 1_000, 1)]))
        assert recent.select(UP, 3_000, 4_000).ids.tolist() == [IDS[0]]
        recent.forget(1_900 + moment * 1_000)
        assert recent.select(UP, 3_000, 4_000).ids.tolist() == []
        assert recent.unexplained(np.array(IDS, np.int64)).tolist() == sorted(IDS)


def test_series_of_what_is_held_are_told_for_those_that_were_asked_for() -> None:
    """Looked up when somebody asks."""
    recent = RecentSamples(MemorySeries(), 0, HELD_MS)
    recent.add(_batch([(which, 1_001, 1) for which in range(3)]))
    found = recent.samples(np.array(IDS[1:4], np.int64), 1_000, 2_000).series
    assert dict(found) == {IDS[which]: SeriesInfo(SERIES[which]) for which in (1, 2)}
    assert len(found) == 2
    assert IDS[0] not in found
