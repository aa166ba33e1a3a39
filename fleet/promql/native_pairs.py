"""Operators between vectors some of whose cells hold native histograms.

Two histograms are added, subtracted and compared; a histogram is scaled by a number. Anything else
that meets is refused, also where Prometheus would leave it out in silence.

Source: Prometheus, promql/engine.go (`vectorElemBinop`) of v3.9.1.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.metrics.histogram_columns import (
    Histograms,
    are_equal,
    concat_histograms,
    scaled,
    sum_groups,
    take_histograms,
)
from fleet.promql.native_cells import HistogramCells, refused_histograms

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array
    from fleet.promql.values import Vector

COMPARED = frozenset({"==", "!="})
ADDED = {"+": 1.0, "-": -1.0}
"""Operators of two histograms, and the weight of the right one."""

Combined = tuple["FloatArray", "BoolArray", HistogramCells | None]


class Side(NamedTuple):
    """One side of an operator."""

    vector: Vector
    rows: Int64Array
    """Which row of it takes part in each pair."""

    @property
    def values(self) -> FloatArray:
        """Numbers, as (pairs, steps)."""
        return self.vector.values[self.rows]

    def places(self, there: BoolArray) -> Int64Array:
        """Of each (pair, step) the number of the histogram; -1 where there is none."""
        cells = self.vector.histograms
        if cells is None:
            return np.full(there.shape, -1, np.int64)
        places = cells.places(self.vector.values.shape)[self.rows]
        return np.where(there, places, -1)

    def histograms(self, places: Int64Array) -> Histograms:
        """Histograms by their numbers."""
        assert self.vector.histograms is not None
        return take_histograms(self.vector.histograms.histograms, places)


class Met:
    """Pairs of rows that meet, and what an operator makes of their cells."""

    def __init__(self, op: str, left: Side, right: Side, there: BoolArray, as_bool: bool) -> None:
        """Find where histograms meet.

        Args:
            op: the operator.
            left: of it.
            right: of it.
            there: (pairs, steps), whether both sides have something.
            as_bool: whether a comparison answers 1 or 0 instead of choosing.
        """
        self._op, self._left, self._right, self._as_bool = op, left, right, as_bool
        self._ours, self._theirs = left.places(there), right.places(there)
        self._first, self._second = self._ours >= 0, self._theirs >= 0

    @cached_property
    def _both(self) -> BoolArray:
        return self._first & self._second

    def combined(self, values: FloatArray, present: BoolArray, text: str) -> Combined:
        """Numbers, what is present, and histograms.

        Args:
            values: what the operator makes of the numbers; anything where there is a histogram.
            present: where it makes a number.
            text: the expression, for errors.

        Raises:
            InvalidInputError: something meets that the operator does not take.
        """
        either = self._first | self._second
        if not either.any():
            return values, present, None
        if (either & ~self._taken()).any():
            raise refused_histograms(text)
        values = np.where(either, np.nan, values)
        present = present & ~either
        if self._op in COMPARED:
            return self._compared(values, present)
        return self._laid(values, present, either, self._computed(either))

    def _taken(self) -> BoolArray:
        """Cells with histograms that the operator takes."""
        if self._op in COMPARED or self._op in ADDED:
            return self._both
        if self._op == "*":
            return ~self._both
        return ~self._second if self._op == "/" else np.zeros_like(self._both)

    def _compared(self, values: FloatArray, present: BoolArray) -> Combined:
        ours = self._left.histograms(self._ours[self._both])
        holds = are_equal(ours, self._right.histograms(self._theirs[self._both]))
        if self._op == "!=":
            holds = ~holds
        if self._as_bool:
            values[self._both] = holds
            return values, present | self._both, None
        chosen = self._both.copy()
        chosen[self._both] = holds
        return self._laid(values, present, chosen, take_histograms(ours, holds))

    def _computed(self, either: BoolArray) -> Histograms:
        """A histogram for each cell that has one on either side."""
        if self._op in ADDED:
            ours = self._left.histograms(self._ours[either])
            theirs = self._right.histograms(self._theirs[either])
            count = len(ours)
            weights = np.repeat([1.0, ADDED[self._op]], count)
            groups = np.tile(np.arange(count), 2)
            return sum_groups(concat_histograms([ours, theirs]), groups, count, weights)
        factors = np.where(self._first, self._right.values, self._left.values)[either]
        if self._op == "/":
            factors = 1.0 / factors
        # histograms of both sides in the order of the cells
        places = np.where(self._first, self._ours, self._theirs)[either]
        is_ours = self._first[either]
        sides = [(self._left, is_ours), (self._right, ~is_ours)]
        parts = [side.histograms(places[where]) for side, where in sides if where.any()]
        order = np.argsort(np.concatenate([np.flatnonzero(where) for _, where in sides]))
        return scaled(take_histograms(concat_histograms(parts), order), factors)

    @staticmethod
    def _laid(
        values: FloatArray, present: BoolArray, cells: BoolArray, histograms: Histograms
    ) -> Combined:
        rows, steps = np.nonzero(cells)
        found = HistogramCells(rows, steps, histograms) if len(rows) else None
        return values, present | cells, found
