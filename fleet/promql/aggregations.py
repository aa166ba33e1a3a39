"""Aggregations: many rows become one per group, or the best of each group remain.

Groups are found by integer codes of the labels that `by` or `without` name; the arithmetic runs
over all groups and steps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.errors import InvalidInputError
from fleet.metrics.labels import METRIC_NAME
from fleet.metrics.row_ranges import exact_sums
from fleet.promql.label_table import Groups, LabelTable, column_of
from fleet.promql.semantics import Semantics
from fleet.promql.values import Scalar, Vector, empty_vector, group_starts
from fleet.promql.window_functions import quantiles, value_order

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array


class Grouping(NamedTuple):
    """What `by (...)` or `without (...)` says; `by ()` where nothing is said."""

    names: tuple[str, ...] = ()
    without: bool = False

    def kept(self, labels: LabelTable) -> tuple[str, ...]:
        """The labels by which rows are grouped, and that results have."""
        if not self.without:
            return tuple(sorted(set(self.names)))
        gone = {METRIC_NAME, *self.names}
        return tuple(name for name in labels.names() if name not in gone)


class _Sorted(NamedTuple):
    """Rows ordered by group."""

    values: FloatArray
    present: BoolArray
    starts: Int64Array
    groups: Groups
    order: Int64Array

    def reduce(self, how: np.ufunc, fill: float) -> FloatArray:
        """`how` over the present values of each (group, step)."""
        filled = self.values if self.present.all() else np.where(self.present, self.values, fill)
        found: FloatArray = how.reduceat(filled, self.starts, axis=0)
        return found

    def counts(self) -> Int64Array:
        """Present values of each (group, step)."""
        found: Int64Array = np.add.reduceat(self.present.astype(np.int64), self.starts, axis=0)
        return found

    def sums(self, values: FloatArray) -> FloatArray:
        """Sums of each (group, step), also where values cancel out; absent ones hold -0."""
        rows, steps = values.shape
        ends = np.append(self.starts[1:], rows)
        at = np.arange(steps, dtype=np.int64)[:, None] * rows
        low, high = (at + self.starts).ravel(), (at + ends).ravel()
        return exact_sums(values.T.ravel(), None, low, high).reshape(steps, -1).T

    def by_row(self, of_group: FloatArray | Int64Array) -> FloatArray:
        """Values of groups, repeated for each of their rows."""
        return np.asarray(of_group[self.groups.codes[self.order]], np.float64)


def _sorted(vector: Vector, groups: Groups) -> _Sorted:
    order = np.argsort(groups.codes, kind="stable")
    starts = group_starts(groups, order)
    return _Sorted(vector.values[order], vector.present[order], starts, groups, order)


def _mean(rows: _Sorted) -> FloatArray:
    counts = rows.counts()
    mean = rows.sums(np.where(rows.present, rows.values, -0.0)) / counts
    over = np.isinf(mean)
    if over.any():
        # the sum is beyond what a double holds, the average need not be
        shares = np.where(rows.present, rows.values / rows.by_row(counts), 0.0)
        mean = np.where(over, rows.sums(shares), mean)
    return mean


def _variance(rows: _Sorted) -> FloatArray:
    """Of differences from the lowest value, so that large values lose nothing."""
    counts = rows.counts()
    away = np.where(rows.present, rows.values - rows.by_row(rows.reduce(np.fmin, np.nan)), 0.0)
    mean = rows.sums(away) / counts
    differences = np.where(rows.present, away - rows.by_row(mean), 0.0)
    return rows.sums(differences * differences) / counts


_OF_GROUP: dict[str, Callable[[_Sorted], FloatArray]] = {
    "sum": lambda rows: rows.sums(np.where(rows.present, rows.values, -0.0)),
    "avg": _mean,
    "min": lambda rows: rows.reduce(np.fmin, np.nan),
    "max": lambda rows: rows.reduce(np.fmax, np.nan),
    "count": lambda rows: rows.counts().astype(np.float64),
    "group": lambda rows: np.ones(rows.counts().shape),
    "stdvar": _variance,
    "stddev": lambda rows: np.sqrt(_variance(rows)),
}


def aggregate(name: str, vector: Vector, grouping: Grouping, semantics: Semantics) -> Vector:
    """One row per group: sum, avg, min, max, count, group, stddev or stdvar."""
    if not len(vector):
        return vector
    kept = grouping.kept(vector.labels)
    rows = _sorted(vector, vector.labels.groups(kept))
    labels = vector.labels.take(rows.groups.firsts).keep(kept)
    values, counts = _OF_GROUP[name](rows), rows.counts()
    if semantics.spread_of_one_is_zero and name in {"stddev", "stdvar"}:
        values = np.where(counts == 1, 0.0, values)
    return Vector(labels, values, counts > 0).compact()


def dense(name: str, vector: Vector, groups: Groups) -> tuple[FloatArray, BoolArray]:
    """The same as (groups, steps), and where there is a value."""
    rows = _sorted(vector, groups)
    return _OF_GROUP[name](rows), rows.counts() > 0


def quantile(q: Scalar, vector: Vector, grouping: Grouping) -> Vector:
    """The quantile of the values of each group."""
    if not len(vector):
        return vector
    kept = grouping.kept(vector.labels)
    groups = vector.labels.groups(kept)
    steps = vector.values.shape[1]
    found = np.full((groups.count, steps), np.nan)
    present = np.zeros(found.shape, np.bool_)
    for step in range(steps):
        there = np.flatnonzero(vector.present[:, step])
        codes, values = groups.codes[there], vector.values[there, step]
        order = value_order(values, codes)
        some, starts, counts = np.unique(codes[order], return_index=True, return_counts=True)
        wanted = np.full(len(some), q.values[step])
        found[some, step] = quantiles(values[order], starts, counts, wanted)
        present[some, step] = True
    labels = vector.labels.take(groups.firsts).keep(kept)
    return Vector(labels, found, present).compact()


def best(name: str, k: Scalar, vector: Vector, grouping: Grouping) -> Vector:
    """Topk or bottomk: the rows of each group with the largest or smallest values, NaN last.

    Raises:
        InvalidInputError: k is no whole number that can be counted to.
    """
    if not len(vector):
        return vector
    groups = vector.labels.groups(grouping.kept(vector.labels))
    steps = vector.values.shape[1]
    kept = np.zeros(vector.values.shape, np.bool_)
    order = np.empty(0, np.int64)
    for step in range(steps):
        limit = _whole(name, float(k.values[step]))
        there = np.flatnonzero(vector.present[:, step])
        values = vector.values[there, step]
        keys = -values if name == "topk" else values
        ranked = np.lexsort((keys, np.isnan(values), groups.codes[there]))
        codes = groups.codes[there][ranked]
        begin = np.searchsorted(codes, codes)
        order = there[ranked[np.arange(len(codes)) - begin < limit]]
        kept[order, step] = True
    found = replace(vector, present=kept)
    # an instant query lists the best first; over several steps no order holds
    return replace(found.take(order), ordered=True) if steps == 1 else found.compact()


def _whole(name: str, value: float) -> int:
    if not abs(value) < 2.0**63:
        raise InvalidInputError(name, value, "a whole number of rows")
    return int(value)


def count_values(label: str, vector: Vector, grouping: Grouping) -> Vector:
    """How often each value occurs in each group, the value as a label."""
    rows, steps = np.nonzero(vector.present)
    count = vector.values.shape[1]
    if not len(rows):
        return empty_vector(count)
    values = vector.values[rows, steps]
    distinct, codes = np.unique(values, return_inverse=True)
    texts = column_of(value_text(float(value)) for value in distinct)
    cells = vector.labels.take(rows.astype(np.int64))
    cells = cells.replace(label, texts.take(codes.reshape(-1)))
    kept = grouping.kept(cells)
    if not grouping.without:
        kept = tuple(sorted({*kept, label}))
    groups = cells.groups(kept)
    found = np.zeros((groups.count, count))
    np.add.at(found, (groups.codes, steps), 1.0)
    return Vector(cells.take(groups.firsts).keep(kept), found, found > 0)


def value_text(value: float) -> str:
    """A number as Prometheus writes it into a label: shortest, without exponent."""
    if value != value:  # noqa: PLR0124 - the one way to tell NaN that needs no import
        return "NaN"
    if value in {float("inf"), float("-inf")}:
        return "+Inf" if value > 0 else "-Inf"
    text = format(Decimal(repr(value)), "f")
    return text.removesuffix(".0")


AGGREGATED: Sequence[str] = tuple(_OF_GROUP)
"""Aggregations that `aggregate` answers."""
