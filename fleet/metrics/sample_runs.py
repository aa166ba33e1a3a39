"""Samples of the last minutes in sorted runs: to add a batch sorts the batch, not all there is.

Each batch is a run by (series, time). `MERGED_RUNS` neighbours that were merged equally often
become one run, so that a question looks at few; what is too old goes where it lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleet.metrics.samples import SampleBatch, distinct, empty_batch

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

    Columns = tuple[Int64Array, Int64Array, FloatArray]

MERGED_RUNS = 8
"""Of 80 batches (20 minutes, each 15 s) at most 18 runs are left, and each sample was sorted two or
three times."""


class _Run(NamedTuple):
    """Samples by (series, time), one for each pair."""

    series_ids: Int64Array
    ts_ms: Int64Array
    values: FloatArray
    span_ms: tuple[int, int]
    """Time of the first and of the last."""
    merges: int
    """How often it was merged."""


class SampleRuns:
    """Samples by series and time; for one thread.

    Args:
        held_max: samples; runs are not merged beyond an eighth of it, since what is too old is cut
            off at each `forget`.
    """

    def __init__(self, held_max: int) -> None:
        """Hold nothing yet."""
        self._held_max = held_max
        self._runs: list[_Run] = []
        """In the order in which they came: of one series and time the last value counts."""

    def __len__(self) -> int:
        """Samples that are held."""
        return sum(len(run.ts_ms) for run in self._runs)

    def add(self, batch: SampleBatch) -> None:
        """Hold the samples of a batch."""
        if not len(batch.ts_ms):
            return
        self._runs.append(_run_of(batch.series_ids, batch.ts_ms, batch.values, 0))
        while self._may_merge():
            last = self._runs[-MERGED_RUNS:]
            self._runs[-MERGED_RUNS:] = [_run_of(*_joined(last), last[0].merges + 1)]

    def forget(self, until_ms: int) -> tuple[int, Int64Array]:
        """Let go of samples up to a time, and of the oldest where there are too many.

        Returns:
            Up to which time samples are gone, and the series that have none left, ascending.
        """
        import numpy as np

        surplus = len(self) - self._held_max
        if surplus > 0:
            times = np.concatenate([run.ts_ms for run in self._runs])
            until_ms = max(until_ms, int(np.partition(times, surplus - 1)[surplus - 1]))
        kept = [(run, _after(run, until_ms)) for run in self._runs]
        self._runs = [run for _, run in kept if run is not None]
        changed = [old for old, new in kept if new is not old]
        return until_ms, self._without_samples(changed)

    def samples(self, ids: Int64Array, start_ms: int, end_ms: int) -> SampleBatch:
        """Samples by (series, time), without what is known of the series.

        Args:
            ids: the series, ascending, each once.
            start_ms: time that all samples lie behind.
            end_ms: time of the last that counts.
        """
        found = [
            _of_series(run, ids, start_ms, end_ms)
            for run in self._runs
            if run.span_ms[0] <= end_ms and run.span_ms[1] > start_ms
        ]
        found = [one for one in found if len(one[0])]
        if len(found) < 2:
            return SampleBatch(*found[0]) if found else empty_batch()
        return SampleBatch(*_ordered(*_columns_of(found)))

    def _may_merge(self) -> bool:
        last = self._runs[-MERGED_RUNS:]
        return (
            len(last) == MERGED_RUNS
            and len({run.merges for run in last}) == 1
            and sum(len(run.ts_ms) for run in last) <= self._held_max // MERGED_RUNS
        )

    def _without_samples(self, runs: list[_Run]) -> Int64Array:
        """Series of runs that are in none any more."""
        import numpy as np

        if not runs:
            return np.empty(0, np.int64)
        left = distinct(np.concatenate([run.series_ids for run in runs]))
        for run in reversed(self._runs):
            if not len(left):
                break
            left = left[~is_among(left, run.series_ids)]
        return left


def is_among(ids: Int64Array, ordered: Int64Array) -> BoolArray:
    """Which identities are among ordered ones; there is at least one of these."""
    import numpy as np

    at = np.searchsorted(ordered, ids)
    at[at == len(ordered)] = 0
    found: BoolArray = ordered[at] == ids
    return found


def _run_of(series_ids: Int64Array, ts_ms: Int64Array, values: FloatArray, merges: int) -> _Run:
    columns = _ordered(series_ids, ts_ms, values)
    return _Run(*columns, (int(columns[1].min()), int(columns[1].max())), merges)


def _ordered(series_ids: Int64Array, ts_ms: Int64Array, values: FloatArray) -> Columns:
    """By (series, time), of equal pairs the last."""
    import numpy as np

    order = np.argsort(series_ids, kind="stable")
    ids, times = series_ids[order], ts_ms[order]
    same = ids[1:] == ids[:-1]
    if (same & (times[1:] <= times[:-1])).any():  # mostly they come in the order of time
        order = np.lexsort((ts_ms, series_ids))
        ids, times = series_ids[order], ts_ms[order]
        same = (ids[1:] == ids[:-1]) & (times[1:] == times[:-1])
        order = order[np.append(~same, True)]
        ids, times = series_ids[order], ts_ms[order]
    return ids, times, values[order]


def _joined(runs: list[_Run]) -> Columns:
    return _columns_of([run[:3] for run in runs])


def _columns_of(parts: list[Columns]) -> Columns:
    import numpy as np

    ids, times, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return ids, times, values


def _after(run: _Run, until_ms: int) -> _Run | None:
    """What of a run is younger; the run itself where all is."""
    first_ms, last_ms = run.span_ms
    if first_ms > until_ms:
        return run
    if last_ms <= until_ms:
        return None
    keep = run.ts_ms > until_ms
    times = run.ts_ms[keep]
    span_ms = int(times.min()), last_ms
    return _Run(run.series_ids[keep], times, run.values[keep], span_ms, run.merges)


def _of_series(run: _Run, ids: Int64Array, start_ms: int, end_ms: int) -> Columns:
    import numpy as np

    first = np.searchsorted(run.series_ids, ids, "left")
    last = np.searchsorted(run.series_ids, ids, "right")
    rows = _ranges(first, last)
    if run.span_ms[0] <= start_ms or run.span_ms[1] > end_ms:
        times = run.ts_ms[rows]
        rows = rows[(times > start_ms) & (times <= end_ms)]
    return run.series_ids[rows], run.ts_ms[rows], run.values[rows]


def _ranges(first: Int64Array, last: Int64Array) -> Int64Array:
    """All numbers of several ranges [first, last), one range after the other."""
    import numpy as np

    counts = last - first
    ends = np.cumsum(counts)
    rows: Int64Array = np.arange(ends[-1] if len(ends) else 0, dtype=np.int64)
    rows += np.repeat(first - (ends - counts), counts)
    return rows
