"""What an allocation would have come to on recorded load: violations, and what lay idle."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.errors import InvalidInputError

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray, Int64Array


class BackTest(NamedTuple):
    """An allocation against what was used later."""

    samples: int
    violations: int
    """Readings above the allocation."""
    workloads_violated: int
    """Workloads with at least one."""
    used: float
    """Sum of the readings."""
    allocated: float
    """Sum of what was allocated at each reading."""
    short: float
    """Sum of what was used beyond the allocation."""

    @property
    def violation_ratio(self) -> float:
        """Share of readings above the allocation."""
        return self.violations / self.samples if self.samples else 0.0

    @property
    def waste_ratio(self) -> float:
        """Share of the allocation that was not used."""
        return 1 - (self.used - self.short) / self.allocated if self.allocated else 0.0


def back_test(workloads: Int64Array, values: FloatArray, allocated: FloatArray) -> BackTest:
    """Judge one amount per workload on readings that it was not made from.

    Args:
        workloads: of each reading.
        values: readings, in the unit of the amounts.
        allocated: one amount for each workload.

    Raises:
        InvalidInputError: a reading belongs to a workload without an amount.
    """
    if len(workloads) and int(np.max(workloads)) >= len(allocated):
        raise InvalidInputError("back_test.workloads", int(np.max(workloads)), "one with an amount")
    limit = allocated[workloads]
    over = values > limit
    return BackTest(
        samples=len(values),
        violations=int(np.count_nonzero(over)),
        workloads_violated=len(np.unique(workloads[over])),
        used=float(values.sum()),
        allocated=float(limit.sum()),
        short=float((values - limit)[over].sum()),
    )


def violation_ratios(
    workloads: Int64Array, values: FloatArray, allocated: FloatArray
) -> list[float | None]:
    """Share of readings above its amount, for each workload; None without a reading."""
    rows = len(allocated)
    samples = np.bincount(workloads, minlength=rows)
    over = np.bincount(workloads[values > allocated[workloads]], minlength=rows)
    return [
        bad / count if count else None
        for bad, count in zip(over.tolist(), samples.tolist(), strict=True)
    ]
