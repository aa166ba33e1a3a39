"""The Vertical Pod Autoscaler's histogram and estimators in plain Python, one sample at a time.

Written after kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender (util/histogram.go,
util/decaying_histogram.go, model/container.go, logic/estimator.go): too simple to be vectorised
wrongly.
"""

from __future__ import annotations

import math

import numpy as np

EPSILON = 0.0001
YEAR_ONE_MS = -62_135_596_800_000
DAY_MS = 86_400_000


class TwinBuckets:
    """Exponentially growing buckets."""

    def __init__(self, maximum: float, first: float, ratio: float) -> None:
        """As NewExponentialHistogramOptions."""
        self.first, self.ratio = first, ratio
        self.count = math.ceil(math.log(maximum * (ratio - 1) / first + 1) / math.log(ratio)) + 1

    def place(self, value: float) -> float:
        """Bucket with the share of it that lies below a value."""
        return math.log(value * (self.ratio - 1) / self.first + 1) / math.log(self.ratio)

    def clear(self, value: float) -> bool:
        """Whether no rounding can move a value into another bucket."""
        return abs(self.place(value) - round(self.place(value))) > 1e-9 or value == 0

    def find(self, value: float) -> int:
        """As FindBucket."""
        return min(int(self.place(value)), self.count - 1) if value >= self.first else 0

    def start(self, bucket: int) -> float:
        """As GetBucketStart."""
        if bucket == 0:
            return 0.0
        return float(self.first * (math.pow(self.ratio, bucket) - 1) / (self.ratio - 1))


class TwinHistogram:
    """One decaying histogram."""

    def __init__(self, buckets: TwinBuckets, half_life_ms: int) -> None:
        """Begin empty, with the reference in the year 1."""
        self.buckets, self.half_life_ms = buckets, half_life_ms
        self.weights = [0.0] * buckets.count
        self.total = 0.0
        self.low, self.high = buckets.count - 1, 0
        self.reference_ms = YEAR_ONE_MS

    def add(self, value: float, weight: float, time_ms: int) -> None:
        """As AddSample of both."""
        weight *= self._factor(time_ms)
        bucket = self.buckets.find(value)
        self.weights[bucket] += weight
        self.total += weight
        if self.weights[bucket] >= EPSILON:
            self.low, self.high = min(self.low, bucket), max(self.high, bucket)

    def _factor(self, time_ms: int) -> float:
        if time_ms > self.reference_ms + 100 * self.half_life_ms:
            since = time_ms - YEAR_ONE_MS
            moved = (since + self.half_life_ms // 2) // self.half_life_ms * self.half_life_ms
            moved += YEAR_ONE_MS
            exponent = math.floor((self.reference_ms - moved) / self.half_life_ms + 0.5)
            scale = math.ldexp(1.0, exponent)
            for bucket in range(self.low, self.high + 1):
                self.weights[bucket] *= scale
            self.total *= scale
            self.reference_ms = moved
            last = self.buckets.count - 1
            while self.weights[self.low] < EPSILON and self.low < last:
                self.low += 1
            while self.weights[self.high] < EPSILON and self.high > 0:
                self.high -= 1
        return float(np.exp2((time_ms - self.reference_ms) / self.half_life_ms))

    def percentile(self, share: float) -> float:
        """As Percentile."""
        if self.weights[self.low] < EPSILON:
            return 0.0
        partial, bucket = 0.0, self.low
        while bucket < self.high:
            partial += self.weights[bucket]
            if partial >= share * self.total:
                break
            bucket += 1
        return self.buckets.start(min(bucket + 1, self.buckets.count - 1))


def twin_peaks(samples: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """(end of the day, peak) of one container's memory samples, in order of time."""
    peaks: dict[int, float] = {}
    window_end = None
    for time_ms, used in samples:
        if window_end is None:
            window_end = time_ms
        if time_ms >= window_end:
            window_end += (time_ms - window_end) // DAY_MS * DAY_MS + DAY_MS
        peaks[window_end] = max(peaks.get(window_end, 0.0), used)
    return sorted(peaks.items())


def twin_amount(
    base: float, unit: float, margin: float, confidence: float, how: tuple[float, float] | None
) -> int:
    """Percentile, margin and confidence, cut off after each step."""
    amount = int(base * unit)
    amount += int(amount * margin)
    if how is not None:
        multiplier, exponent = how
        factor = math.inf if confidence == 0 else 1 + multiplier / confidence
        scaled = math.pow(factor, exponent)
        amount = int(min(amount * scaled, 1e14)) if amount else 0
    return amount
