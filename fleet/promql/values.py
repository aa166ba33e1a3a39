"""What expressions evaluate to: scalars and vectors over the steps of a query."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.errors import InvalidInputError
from fleet.metrics.labels import METRIC_NAME, labels_text
from fleet.promql.label_table import Groups, LabelTable, no_labels
from fleet.promql.native_cells import HistogramCells

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array


@dataclass(frozen=True, slots=True)
class Steps:
    """The moments at which an expression is evaluated; an instant query has one."""

    start_ms: int
    step_ms: int
    count: int

    def times_ms(self) -> Int64Array:
        """All moments, milliseconds since 1970."""
        steps = np.arange(self.count, dtype=np.int64)
        return self.start_ms + self.step_ms * steps


class Scalar(NamedTuple):
    """One number per step."""

    values: FloatArray


class Text(NamedTuple):
    """A string literal."""

    value: str


@dataclass(frozen=True, eq=False)
class Vector:
    """Rows of labels with a value at some of the steps.

    Attributes:
        labels: of each row.
        values: (rows, steps); anything where no value is present.
        present: (rows, steps).
        ordered: whether the order of the rows was asked for.
        histograms: cells that hold a native histogram: present, with NaN as their number.
    """

    labels: LabelTable
    values: FloatArray
    present: BoolArray
    ordered: bool = False
    histograms: HistogramCells | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.values)

    def numbers(self) -> BoolArray:
        """Where a number is present."""
        if self.histograms is None:
            return self.present
        return self.present & ~self.histograms.mask(self.present.shape)

    def take(self, rows: Int64Array) -> Vector:
        """Some rows, each once, in the given order."""
        cells = self.histograms and self.histograms.of_rows(rows, len(self))
        return Vector(
            self.labels.take(rows), self.values[rows], self.present[rows], self.ordered, cells
        )

    def where(self, present: BoolArray) -> Vector:
        """The same at some of its places only."""
        present = self.present & present
        cells = self.histograms and self.histograms.within(present)
        return replace(self, present=present, histograms=cells)

    def anywhere(self) -> BoolArray:
        """Whether any row is present, per step."""
        return np.asarray(self.present.any(axis=0), np.bool_)

    def compact(self) -> Vector:
        """Without rows that are present nowhere."""
        somewhere = self.present.any(axis=1)
        return self if somewhere.all() else self.take(np.flatnonzero(somewhere))

    def nameless(self) -> Vector:
        """Without the metric's name, as what is computed from a metric has none.

        Raises:
            InvalidInputError: two rows differ in nothing else at one moment.
        """
        name = self.labels.column(METRIC_NAME)
        bare = replace(self, labels=self.labels.without([METRIC_NAME]))
        several = len(name.texts) > 1 and len(np.unique(name.codes)) > 1
        return merged(bare) if several else bare

    def computed(self, values: FloatArray) -> Vector:
        """Other values at the same places, under no metric's name.

        Raises:
            InvalidInputError: as `nameless`.
        """
        assert self.histograms is None, "numbers are not computed of histograms"
        return replace(self, values=values).nameless()


def merged(vector: Vector) -> Vector:
    """Rows of equal labels as one, where they are never present at once.

    Raises:
        InvalidInputError: two are; as in Prometheus, that is an error and no choice is made.
    """
    groups = vector.labels.groups(vector.labels.names())
    if groups.count == len(vector):
        return vector
    order = np.argsort(groups.codes, kind="stable")
    starts = group_starts(groups, order)
    counts = np.add.reduceat(vector.present[order].astype(np.int64), starts, axis=0)
    if (counts > 1).any():
        row = int(groups.firsts[int(np.flatnonzero((counts > 1).any(axis=1))[0])])
        raise InvalidInputError(
            "query",
            labels_text(vector.labels.labels(row)),
            "a result whose elements differ in their labels; this one occurs more than once",
            hint="Aggregate, or keep apart what has become equal (by, on, label_replace).",
        )
    there = np.where(vector.present, np.arange(len(vector))[:, None], -1)[order]
    rows = np.maximum(np.maximum.reduceat(there, starts, axis=0), 0)
    values = np.take_along_axis(vector.values, rows, axis=0)
    cells = vector.histograms and vector.histograms.moved(groups.codes)
    labels = vector.labels.take(groups.firsts)
    return Vector(labels, values, counts > 0, vector.ordered, cells)


def group_starts(groups: Groups, order: Int64Array) -> Int64Array:
    """Where each group begins among the rows ordered by `groups.codes`."""
    found = np.searchsorted(groups.codes[order], np.arange(groups.count))
    return found.astype(np.int64, copy=False)


def empty_vector(steps: int) -> Vector:
    """No rows."""
    return Vector(no_labels(0), np.empty((0, steps)), np.empty((0, steps), np.bool_))


def single_row(values: FloatArray, present: BoolArray | None = None) -> Vector:
    """One row without labels."""
    there = np.ones(len(values), np.bool_) if present is None else present
    return Vector(no_labels(1), values[None, :], there[None, :])
