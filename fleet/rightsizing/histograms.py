"""Histograms whose samples lose half their weight each half-life, thousands of them at once.

Row i belongs to workload i. Only relative weights matter, so a sample is weighed by 2^((its time -
reference) / half-life) when it is added, and nothing is touched as time goes by.

Source: kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender/util/decaying_histogram.go
and histogram.go. Percentiles are those of the source bit by bit, as long as no row spans more than
100 half-lives; beyond, only when the reference moves can differ, which no percentile shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fleet.errors import InvalidInputError
from fleet.rightsizing.buckets import EPSILON, Buckets

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

EXPONENT_MAX = 100
"""Half-lives between reference and sample before the reference moves. Source: maxDecayExponent."""
_YEAR_ONE_MS = -62_135_596_800_000
"""0001-01-01 UTC: Go rounds times to multiples that count from there."""


class DecayingHistograms:
    """One histogram for each of `rows` workloads.

    Args:
        rows: number of histograms.
        buckets: their resolution.
        half_life_ms: after which a sample weighs half as much.
    """

    def __init__(self, rows: int, buckets: Buckets, half_life_ms: int) -> None:
        """Begin empty."""
        self.buckets = buckets
        self.half_life_ms = half_life_ms
        self.weights: FloatArray = np.zeros((rows, buckets.count))
        self.totals: FloatArray = np.zeros(rows)
        self.reference_ms: Int64Array = np.zeros(rows, np.int64)
        self._begun: BoolArray = np.zeros(rows, np.bool_)

    def add(
        self, rows: Int64Array, values: FloatArray, weights: FloatArray, times_ms: Int64Array
    ) -> None:
        """Add samples, in the order given; the first one of a row sets its reference.

        Args:
            rows: the histogram of each sample.
            values: 0 or more, in the unit of the buckets.
            weights: 0 or more, before any decay.
            times_ms: milliseconds since 1970 UTC.

        Raises:
            InvalidInputError: a value or weight is negative or no number; nothing was added.
        """
        for name, column in (("values", values), ("weights", weights)):
            wrong = np.flatnonzero(~(column >= 0) | np.isinf(column))
            if len(wrong):
                raise InvalidInputError(
                    f"histogram.{name}", float(column[wrong[0]]), "finite, and 0 or more"
                )
        places = self.buckets.find(values)
        self._move_references(rows, times_ms)
        age = (times_ms - self.reference_ms[rows]) / self.half_life_ms
        weighed = weights * np.exp2(age)
        # one flat column: `add.at` adds in order, as the source does, and is quick only in one row
        np.add.at(self.weights.reshape(-1), rows * self.buckets.count + places, weighed)
        np.add.at(self.totals, rows, weighed)

    def percentile(self, share: float) -> FloatArray:
        """End of the bucket in which each row's share of the weight is reached; 0 where empty."""
        filled = self.weights >= EPSILON
        found = np.zeros(len(self.weights))
        some = np.flatnonzero(filled.any(axis=1))
        if not len(some):
            return found
        filled = filled[some]
        lowest = filled.argmax(axis=1)
        highest = self.buckets.count - 1 - filled[:, ::-1].argmax(axis=1)
        numbers = np.arange(self.buckets.count)
        counted = np.where(numbers >= lowest[:, None], self.weights[some], 0.0)
        reached = np.cumsum(counted, axis=1) >= (share * self.totals[some])[:, None]
        reached &= numbers >= lowest[:, None]
        first = np.where(reached.any(axis=1), reached.argmax(axis=1), highest)
        found[some] = self.buckets.ends[np.minimum(first, highest)]
        return found

    def _move_references(self, rows: Int64Array, times_ms: Int64Array) -> None:
        """Set the reference of rows that begin, and move those that a sample is too far from."""
        # written backwards, the first sample of each row is what stays
        starts = np.full(len(self.totals), -1, np.int64)
        starts[rows[::-1]] = np.arange(len(rows), dtype=np.int64)[::-1]
        present = np.flatnonzero(starts >= 0)
        first, new = starts[present], ~self._begun[present]
        self.reference_ms[present[new]] = self._rounded(times_ms[first[new]])
        self._begun[present[new]] = True
        newest = np.full(len(self.totals), np.iinfo(np.int64).min)
        np.maximum.at(newest, rows, times_ms)
        far = present[
            newest[present] - self.reference_ms[present] > EXPONENT_MAX * self.half_life_ms
        ]
        if not len(far):
            return
        moved = self._rounded(newest[far])
        steps = np.floor((self.reference_ms[far] - moved) / self.half_life_ms + 0.5)
        scale = np.exp2(steps)
        self.weights[far] *= scale[:, None]
        self.totals[far] *= scale
        self.reference_ms[far] = moved

    def _rounded(self, times_ms: Int64Array) -> Int64Array:
        """The nearest multiple of the half-life, halves upwards, counted as Go counts."""
        since = times_ms - _YEAR_ONE_MS + self.half_life_ms // 2
        rounded: Int64Array = since // self.half_life_ms * self.half_life_ms + _YEAR_ONE_MS
        return rounded
