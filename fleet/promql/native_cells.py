"""Native histograms of a vector: which cells (row, step) hold one, and how they meet numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.errors import InvalidInputError
from fleet.metrics.answers import Windows
from fleet.metrics.histogram_columns import (
    Histograms,
    concat_histograms,
    sum_groups,
    take_histograms,
)
from fleet.promql.native_windows import HistogramWindows, NativeFunction

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array
    from fleet.promql.window_context import WindowContext


NEVER = -(2**62)


class HistogramCells(NamedTuple):
    """Cells of a vector that hold a native histogram, each once."""

    rows: Int64Array
    steps: Int64Array
    histograms: Histograms

    def take(self, which: Int64Array | BoolArray) -> HistogramCells:
        """Some cells."""
        return HistogramCells(
            self.rows[which], self.steps[which], take_histograms(self.histograms, which)
        )

    def of_rows(self, chosen: Int64Array, count: int) -> HistogramCells:
        """Cells of some rows, each of them once, numbered as they are chosen.

        Args:
            chosen: rows.
            count: how many rows there were.
        """
        places = np.full(count, -1, np.int64)
        places[chosen] = np.arange(len(chosen))
        kept = self.take(places[self.rows] >= 0)
        return kept._replace(rows=places[kept.rows])

    def moved(self, rows: Int64Array) -> HistogramCells:
        """The same under other row numbers: `rows[i]` for row i."""
        return self._replace(rows=rows[self.rows])

    def within(self, present: BoolArray) -> HistogramCells | None:
        """Those where something is present; None for none."""
        found = self.take(present[self.rows, self.steps])
        return found if len(found.rows) else None

    def places(self, shape: tuple[int, int]) -> Int64Array:
        """Of each cell of a vector the number of its histogram; -1 where there is none."""
        found = np.full(shape, -1, np.int64)
        found[self.rows, self.steps] = np.arange(len(self.rows))
        return found

    def mask(self, shape: tuple[int, int]) -> BoolArray:
        """Which cells of a vector they are."""
        found = np.zeros(shape, np.bool_)
        found[self.rows, self.steps] = True
        return found

    def summed(self, groups: Int64Array, steps: int) -> HistogramCells:
        """One histogram for each group of rows and step.

        Args:
            groups: of each row.
            steps: of the vector.
        """
        cells, which = np.unique(groups[self.rows] * steps + self.steps, return_inverse=True)
        total = sum_groups(self.histograms, which.reshape(-1), len(cells))
        return HistogramCells(cells // steps, cells % steps, total)


def joined_cells(
    one: HistogramCells | None, other: HistogramCells | None, rows: int
) -> HistogramCells | None:
    """Cells of two vectors whose rows lie behind one another; the first has so many rows."""
    if one is None or other is None:
        return one if other is None else other._replace(rows=other.rows + rows)
    return HistogramCells(
        np.concatenate([one.rows, other.rows + rows]),
        np.concatenate([one.steps, other.steps]),
        concat_histograms([one.histograms, other.histograms]),
    )


def refused_histograms(text: str) -> InvalidInputError:
    """The error about native histograms where only numbers can be.

    Args:
        text: the expression that has them.
    """
    return InvalidInputError(
        "query",
        text,
        "numbers here; these series are native histograms",
        hint="Put histogram_quantile, histogram_count, histogram_sum, histogram_avg or "
        "histogram_fraction around them; docs/promql.md says what takes them.",
    )


class NativeCollector:
    """Takes windows of native histograms as they are read, and lays them over the numbers."""

    def __init__(self, function: NativeFunction, shape: tuple[int, int]) -> None:
        """Nothing is found yet.

        Args:
            function: what is made of the windows.
            shape: rows and steps.
        """
        self._function, self._shape = function, shape
        self._rows: list[Int64Array] = []
        self._steps: list[Int64Array] = []
        self._last_ms: list[Int64Array] = []
        self._kept: list[BoolArray] = []
        self._histograms: list[Histograms] = []
        self._numbers: list[FloatArray] = []
        self._numbers_ms = np.full(shape, NEVER)

    def add(
        self, windows: HistogramWindows, rows: Int64Array, first_step: int, known: WindowContext
    ) -> None:
        """Compute the function of some windows.

        Args:
            windows: of some series.
            rows: of each of the series.
            first_step: of the windows.
            known: what the function knows of them.
        """
        self._rows.append(rows[windows.at // windows.steps])
        self._steps.append(first_step + windows.at % windows.steps)
        if self._function.to_numbers is not None:
            self._numbers.append(self._function.to_numbers(windows))
            return
        assert self._function.to_histograms is not None
        found = self._function.to_histograms(windows, known)
        self._last_ms.append(windows.last_ms)
        self._kept.append(found.kept)
        self._histograms.append(found.histograms)

    def saw_numbers(self, rows: slice, steps: slice, windows: Windows) -> None:
        """Remember when the last number of each window was, stale markers among them."""
        last_ms, there = windows.spread(windows.last_ms.astype(np.float64))
        self._numbers_ms[rows, steps][there] = last_ms[there].astype(np.int64)

    def laid_over(self, values: FloatArray, present: BoolArray) -> HistogramCells | None:
        """Histograms among numbers: changes both arrays; None where no cell holds a histogram."""
        rows, steps = np.concatenate(self._rows), np.concatenate(self._steps)
        if self._numbers:
            numbers = np.concatenate(self._numbers)
            there = ~np.isnan(numbers)
            rows, steps, numbers = rows[there], steps[there], numbers[there]
            before = np.where(present[rows, steps], values[rows, steps], 0.0)
            values[rows, steps] = self._function.combine(before, numbers)
            present[rows, steps] = True
            return None
        kept = np.concatenate(self._kept)
        if self._function.takes_latest:
            later = np.concatenate(self._last_ms) >= self._numbers_ms[rows, steps]
        else:
            later = self._numbers_ms[rows, steps] == NEVER
            present[rows[~later], steps[~later]] = False  # a mix of both has no answer
        present[rows[later], steps[later]] = kept[later]
        values[rows[later], steps[later]] = np.nan
        cells = HistogramCells(rows[kept], steps[kept], concat_histograms(self._histograms))
        cells = cells.take(later[kept])
        return cells if len(cells.rows) else None
