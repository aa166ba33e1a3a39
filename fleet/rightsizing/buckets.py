"""Buckets that grow: the resolution of a histogram is a share of the value, not an amount.

The first bucket is [0, first); bucket n has the size first x ratio^n, so that it begins at
first x (ratio^n - 1) / (ratio - 1). The last one has no upper end.

Source: kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender/util/histogram_options.go.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fleet.errors import InvalidInputError

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray, Int64Array

GROWTH = 0.05
"""Each bucket is so much larger than the one before. Source: model/aggregations_config.go."""
EPSILON = 0.0001
"""Weight below which a bucket counts as empty: a thousandth of the least weight of a sample.
Source: model/aggregations_config.go (0.001 x minSampleWeight)."""


class Buckets:
    """An exponential scheme.

    Args:
        maximum: the last bucket begins at or above it.
        first: size of the first bucket.
        growth: how much larger each bucket is than the one before.

    Raises:
        InvalidInputError: one of them is not above 0.
    """

    def __init__(self, maximum: float, first: float, growth: float = GROWTH) -> None:
        """Compute where each bucket begins."""
        for name, value in (("maximum", maximum), ("first", first), ("growth", growth)):
            if not value > 0:
                raise InvalidInputError(f"buckets.{name}", value, "above 0")
        self.first, self.ratio = first, 1.0 + growth
        top = maximum * (self.ratio - 1) / first + 1
        self.count = math.ceil(math.log(top) / math.log(self.ratio)) + 1
        self.starts: FloatArray = np.array([self._start(number) for number in range(self.count)])
        self.ends: FloatArray = np.append(self.starts[1:], self.starts[-1])
        """What a percentile in each bucket answers: its end, of the last one its start."""

    def _start(self, number: int) -> float:
        return self.first * (self.ratio**number - 1) / (self.ratio - 1) if number else 0.0

    def find(self, values: FloatArray) -> Int64Array:
        """Bucket of each value; what is beyond the last one's start falls into the last.

        Values are compared with the starts. The source takes logarithms, which round: a value
        within 1e-12 of a start may there fall into the bucket before.
        """
        found: Int64Array = np.searchsorted(self.starts, values, "right") - 1
        return np.maximum(found, 0)


CPU_BUCKETS = Buckets(1000.0, 0.001)
"""Cores: 223 buckets from a thousandth of a core to 1,000. Source: model/aggregations_config.go as
of 115087573; the first bucket was 0.01 (176 buckets) before, which is what an agent here has."""
MEMORY_BUCKETS = Buckets(1e12, 1e7)
"""Bytes: 176 buckets from 10 MB to 1 TB. Source: model/aggregations_config.go."""
