"""Samples in sorted runs: a dictionary of all of them says the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fleet.metrics.sample_runs import MERGED_RUNS, SampleRuns
from fleet.metrics.samples import SampleBatch

MANY = 10_000
BATCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.integers(-20, 20), st.integers(0, 9)), max_size=8),
    max_size=3 * MERGED_RUNS,
)
"""Of each batch some samples: series, time beside the batch's own, value."""


def _batch(samples: list[tuple[int, int, int]], moment_ms: int) -> SampleBatch:
    ids, times, values = zip(*samples, strict=True) if samples else ((), (), ())
    return SampleBatch(
        np.array(ids, np.int64),
        np.array(times, np.int64) + moment_ms,
        np.array(values, np.float64),
    )


def _listed(batch: SampleBatch) -> list[tuple[int, int, float]]:
    columns = batch.series_ids, batch.ts_ms, batch.values
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(BATCHES, st.lists(st.integers(0, 4), unique=True), st.integers(0, 250), st.integers(0, 100))
def test_runs_answer_as_a_dictionary_of_all_samples_does(
    batches: list[list[tuple[int, int, int]]], wanted: list[int], start_ms: int, length_ms: int
) -> None:
    """Late ones, repeated ones, times that overlap; a later value counts, whatever was merged."""
    runs, twin = SampleRuns(MANY), {}
    for number, samples in enumerate(batches):
        batch = _batch(samples, number * 10)
        runs.add(batch)
        twin.update({(one, ts): value for one, ts, value in _listed(batch)})
    assert len(runs) >= len(twin)
    ids = np.array(sorted(wanted), np.int64)
    found = _listed(runs.samples(ids, start_ms, start_ms + length_ms))
    assert found == sorted(
        (one, ts, value)
        for (one, ts), value in twin.items()
        if one in wanted and start_ms < ts <= start_ms + length_ms
    )


@given(BATCHES, st.sampled_from([5, 20, 60, MANY]), st.integers(5, 60))
def test_what_is_let_go_is_told_and_the_rest_is_whole(
    batches: list[list[tuple[int, int, int]]], held_max: int, held_ms: int
) -> None:
    """Every sample behind the told time is there; a series is told when its last sample went."""
    runs, twin, until_ms = SampleRuns(held_max), {}, -100
    everything = np.arange(5, dtype=np.int64)
    for number, samples in enumerate(batches):
        batch = _batch(samples, number * 10)
        before = set(runs.samples(everything, -200, MANY).series_ids.tolist())
        runs.add(batch)
        twin.update({(one, ts): value for one, ts, value in _listed(batch)})
        before |= set(batch.series_ids.tolist())
        until_ms, gone = runs.forget(max(until_ms, number * 10 - held_ms))
        left = runs.samples(everything, -200, MANY)
        assert len(runs) <= held_max
        assert _listed(left) == sorted((*key, v) for key, v in twin.items() if key[1] > until_ms)
        assert gone.tolist() == sorted(before - set(left.series_ids.tolist()))


def test_one_sample_of_the_future_lets_nothing_go_but_the_oldest() -> None:
    """Room is made for what is new by time, not by the batch in which something came."""
    runs = SampleRuns(20)
    for moment in range(10):
        runs.add(_batch([(0, 0, 1), (1, 0, 1), (2, 600 if moment == 3 else 0, 1)], moment * 15))
        until_ms, _ = runs.forget(-1)
        assert until_ms <= max(-1, moment * 15 - 75)
    assert len(runs) in {18, 19, 20}


def test_twenty_minutes_of_batches_lie_in_few_runs_that_were_sorted_few_times() -> None:
    """A question looks at each run; a single one would be sorted anew with each batch."""
    runs = SampleRuns(MANY)
    for moment in range(80):
        runs.add(_batch([(series, 0, 1) for series in range(5)], moment * 15))
    assert len(runs) == 400
    assert len(runs._runs) <= 80 // MERGED_RUNS + MERGED_RUNS
    assert max(run.merges for run in runs._runs) <= 2
