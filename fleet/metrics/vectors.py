"""What an instant query answers: one value for each label set, all at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.metrics.labels import Labels

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class InstantVector:
    """Values of series at one moment, in columns of one length.

    A scalar is a vector of one element without labels.

    Attributes:
        labels: of each element, ordered by name; `__name__` only where the query keeps it.
        values: float64, as long as `labels`.
        at_ms: the moment, milliseconds since 1970 UTC.
    """

    labels: Sequence[Labels]
    values: FloatArray
    at_ms: int

    def __len__(self) -> int:
        """Number of elements."""
        return len(self.labels)


def empty_vector(at_ms: int) -> InstantVector:
    """A vector without elements: nothing matched, or nothing was true."""
    import numpy as np

    return InstantVector((), np.empty(0, np.float64), at_ms)
