"""What takes native histograms beside functions of windows: sums, averages, scaling, functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fleet.metrics.histogram_columns import scaled as scaled_histograms
from fleet.promql import aggregations
from fleet.promql.native_cells import HistogramCells
from fleet.promql.semantics import Semantics
from fleet.promql.values import Scalar, Text, Vector

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray

AGGREGATED = frozenset({"sum", "avg", "count", "group"})
"""Aggregations that take them; of the first two the result is a histogram."""


def aggregate(
    op: str, vector: Vector, grouping: aggregations.Grouping, semantics: Semantics
) -> Vector:
    """An aggregation over a vector with native histograms; groups of both kinds have no sum."""
    cells = vector.histograms
    assert cells is not None
    if op in {"count", "group"}:
        numbers = replace(vector, histograms=None)
        return aggregations.aggregate(op, numbers, grouping, semantics)
    kept = grouping.kept(vector.labels)
    groups = vector.labels.groups(kept)
    shape = (groups.count, vector.values.shape[1])
    labels = vector.labels.take(groups.firsts).keep(kept)
    total = cells.summed(groups.codes, shape[1])
    counts = np.zeros(shape)
    np.add.at(counts, (groups.codes[cells.rows], cells.steps), 1.0)
    if op == "avg":
        shares = 1.0 / counts[total.rows, total.steps]
        total = total._replace(histograms=scaled_histograms(total.histograms, shares))
    values, present = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    there = replace(vector, present=vector.numbers(), histograms=None)
    of_numbers, numbered = aggregations.dense(op, there, groups)
    mixed = numbered & (counts > 0)
    values = np.where(numbered & ~mixed, of_numbers, np.nan)
    total = total.take(~mixed[total.rows, total.steps])
    present = (numbered & ~mixed) | total.mask(shape)
    found = Vector(labels, values, present, histograms=total if len(total.rows) else None)
    return found.compact()


def scaled(op: str, left: Scalar | Vector | Text, right: Scalar | Vector | Text) -> Vector | None:
    """A vector with native histograms times or by a scalar; None for anything else.

    As in Prometheus, numbers among them are scaled, too.
    """
    swapped = isinstance(left, Scalar)
    vector, scalar = (right, left) if swapped else (left, right)
    if not isinstance(vector, Vector) or not isinstance(scalar, Scalar):
        return None
    if vector.histograms is None or op not in {"*", "/"} or (swapped and op == "/"):
        return None
    factor = scalar.values if op == "*" else 1.0 / scalar.values
    cells = vector.histograms
    histograms = scaled_histograms(cells.histograms, factor[cells.steps])
    values = vector.values * scalar.values if op == "*" else vector.values / scalar.values
    found = replace(vector, values=values, histograms=cells._replace(histograms=histograms))
    return found.nameless()


def computed(vector: Vector, compute: Callable[[HistogramCells], FloatArray]) -> Vector:
    """A number for each native histogram; rows of numbers are left out, and names."""
    cells = vector.histograms
    values, present = np.zeros(vector.values.shape), np.zeros(vector.values.shape, np.bool_)
    if cells is not None:
        values[cells.rows, cells.steps] = compute(cells)
        present[cells.rows, cells.steps] = True
    return Vector(vector.labels, values, present, vector.ordered).compact().nameless()
