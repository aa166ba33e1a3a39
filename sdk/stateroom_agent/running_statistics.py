"""Statistics of a stream that fit into a few numbers, and of two streams into one.

Source: B. P. Welford, "Note on a method for calculating corrected sums of squares and products",
Technometrics 4 (1962); the merge after T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae
and a pairwise algorithm for computing sample variances", Stanford STAN-CS-79-773 (1979).
"""

from __future__ import annotations

import math


class RunningStatistics:
    """Count, mean, sum of squared deviations, least, greatest and last value."""

    __slots__ = ("count", "last", "m2", "maximum", "mean", "minimum")

    def __init__(self) -> None:
        """Start without values; least and greatest are 0 until there is one."""
        self.count = 0
        self.mean = 0.0
        self.m2 = 0.0
        self.minimum = 0.0
        self.maximum = 0.0
        self.last = 0.0

    def add(self, value: float) -> None:
        """Take one finite value into account."""
        self.minimum = min(self.minimum, value) if self.count else value
        self.maximum = max(self.maximum, value) if self.count else value
        self.last = value
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self.m2 += delta * (value - self.mean)

    def merge(self, later: RunningStatistics) -> None:
        """Take all values of another stream into account; its last value counts as the later."""
        if later.count == 0:
            return
        if self.count == 0:
            self.minimum, self.maximum = later.minimum, later.maximum
        count = self.count + later.count
        delta = later.mean - self.mean
        self.m2 += later.m2 + delta * delta * self.count * later.count / count
        self.mean += delta * later.count / count
        self.minimum = min(self.minimum, later.minimum)
        self.maximum = max(self.maximum, later.maximum)
        self.last = later.last
        self.count = count

    def deviation(self) -> float:
        """Sample standard deviation; 0 with fewer than two values."""
        return math.sqrt(self.m2 / (self.count - 1)) if self.count > 1 else 0.0

    def as_dict(self) -> dict[str, float]:
        """The numbers by name, for JSON."""
        return {
            "count": self.count,
            "mean": self.mean,
            "m2": self.m2,
            "min": self.minimum,
            "max": self.maximum,
            "last": self.last,
        }

    @classmethod
    def from_dict(cls, values: dict[str, float]) -> RunningStatistics:
        """The statistics that `as_dict` described.

        Raises:
            KeyError: a number is missing.
        """
        statistics = cls()
        statistics.count = int(values["count"])
        statistics.mean = float(values["mean"])
        statistics.m2 = float(values["m2"])
        statistics.minimum = float(values["min"])
        statistics.maximum = float(values["max"])
        statistics.last = float(values["last"])
        return statistics
