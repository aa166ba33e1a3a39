"""Operators between vectors: which rows meet, and what labels the result has.

Source: Prometheus, promql/engine.go (`VectorBinop`, `VectorAnd`, `VectorOr`, `VectorUnless`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.errors import InvalidInputError
from fleet.metrics.labels import METRIC_NAME, labels_text
from fleet.promql.label_table import LabelTable, joined, shared_codes
from fleet.promql.native_cells import joined_cells
from fleet.promql.native_pairs import Met, Side
from fleet.promql.operators import ARITHMETIC, combined
from fleet.promql.semantics import Semantics
from fleet.promql.values import Scalar, Vector, empty_vector, merged

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, Int64Array


class Matching(NamedTuple):
    """What stands between an operator and its right side."""

    names: tuple[str, ...] = ()
    on: bool = False
    """Whether rows meet that agree in `names`; else those that agree in all others."""
    many: str = ""
    """The side on which several rows may meet one: `left`, `right`, '' for neither."""
    include: tuple[str, ...] = ()
    """Labels that results take from the other side."""
    as_bool: bool = False


def with_scalar(op: str, vector: Vector, scalar: Scalar, *, swapped: bool, as_bool: bool) -> Vector:
    """An operator between a vector and a scalar; `swapped` where the scalar stands on the left."""
    number = scalar.values[None, :]
    left, right = (number, vector.values) if swapped else (vector.values, number)
    values, chosen = combined(op, left, right, as_bool=as_bool)
    if chosen is not None:
        return replace(vector, present=vector.present & chosen).compact()
    return vector.computed(np.broadcast_to(values, vector.values.shape))


def with_vector(
    op: str,
    left: Vector,
    right: Vector,
    matching: Matching,
    semantics: Semantics,
    text: str = "",
) -> Vector:
    """An arithmetic operator or comparison between vectors.

    Args:
        op: the operator.
        left: of it.
        right: of it.
        matching: what stands between the operator and its right side.
        semantics: of which version.
        text: the whole expression, for errors.

    Raises:
        InvalidInputError: on a side that must be unique, or in the result, two rows are not; or
            the operator does not take the native histograms that meet.
    """
    if not len(left) or not len(right):
        return empty_vector(left.values.shape[1])
    flipped = matching.many == "right"
    many, one = (right, left) if flipped else (left, right)
    many_keys, one_keys, count = _keys(many.labels, one.labels, matching)
    asked = replace(one, present=one.present & many.present.any(axis=0))
    _check_unique(asked, one_keys, count, matching, "left" if flipped else "right")
    pairs = _pairs(many_keys, one_keys, count)
    there = many.present[pairs.many] & one.present[pairs.one]
    first, second = Side(many, pairs.many), Side(one, pairs.one)
    if flipped:
        first, second = second, first
    values, chosen = combined(op, first.values, second.values, as_bool=matching.as_bool)
    present = there if chosen is None else there & chosen
    cells = None
    if first.vector.histograms is not None or second.vector.histograms is not None:
        cells_met = Met(op, first, second, there, matching.as_bool)
        values, present, cells = cells_met.combined(values, present, text)
    if not matching.many:
        met = present if semantics.unmatched_may_meet else there
        _check_one_to_one(met, many, pairs, many_keys, count)
    labels = _result_labels(op, many.labels.take(pairs.many), one.labels.take(pairs.one), matching)
    return merged(Vector(labels, values, present, histograms=cells).compact())


def set_operation(op: str, left: Vector, right: Vector, matching: Matching) -> Vector:
    """`and`, `or` and `unless`: rows remain whole, by whether the other side has their key."""
    left_keys, right_keys, count = _keys(left.labels, right.labels, matching)
    if op == "or":
        taken = _anywhere(left, left_keys, count)
        rest = right.where(~taken[right_keys]).compact()
        return merged(stacked(left, rest))
    there = _anywhere(right, right_keys, count)[left_keys]
    return left.where(there if op == "and" else ~there).compact()


def stacked(one: Vector, other: Vector) -> Vector:
    """The rows of one vector, then those of another."""
    if not len(other) or not len(one):
        return one if len(one) else other
    return Vector(
        joined(one.labels, other.labels),
        np.concatenate([one.values, other.values]),
        np.concatenate([one.present, other.present]),
        histograms=joined_cells(one.histograms, other.histograms, len(one)),
    )


def _keys(
    one: LabelTable, other: LabelTable, matching: Matching
) -> tuple[Int64Array, Int64Array, int]:
    """Numbers of both sides' rows that are equal where their matching labels are; how many."""
    if matching.on:
        names: Sequence[str] = sorted(set(matching.names))
    else:
        gone = {METRIC_NAME, *matching.names}
        names = sorted((set(one.names()) | set(other.names())) - gone)
    mine, theirs = np.zeros(len(one), np.int64), np.zeros(len(other), np.int64)
    size = 1
    for name in names:
        here, there, texts = shared_codes(one.column(name), other.column(name))
        mine, theirs = mine * len(texts) + here, theirs * len(texts) + there
        both = np.concatenate([mine, theirs])
        size *= max(len(texts), 1)
        if size > 2**31:
            _, both = np.unique(both, return_inverse=True)
            size = len(both)
            mine, theirs = both[: len(mine)], both[len(mine) :]
    _, dense = np.unique(np.concatenate([mine, theirs]), return_inverse=True)
    dense = dense.reshape(-1)
    count = int(np.max(dense)) + 1 if len(dense) else 0
    return dense[: len(mine)], dense[len(mine) :], count


def _anywhere(vector: Vector, keys: Int64Array, count: int) -> BoolArray:
    """Whether a row of each key is present, per step."""
    found = np.zeros((count, vector.values.shape[1]), np.bool_)
    if not _has_repeated(keys):
        found[keys] = vector.present
    else:
        np.logical_or.at(found, keys, vector.present)
    return found


def _has_repeated(keys: Int64Array) -> bool:
    """Whether two rows have one key."""
    return len(keys) > 0 and int(np.bincount(keys).max()) > 1


class _Pairs(NamedTuple):
    many: Int64Array
    one: Int64Array


def _pairs(many_keys: Int64Array, one_keys: Int64Array, count: int) -> _Pairs:
    """Every row of the many side with every row of the other that has its key."""
    order = np.argsort(one_keys, kind="stable")
    starts = np.searchsorted(one_keys[order], np.arange(count + 1))
    counts = np.diff(starts)[many_keys]
    many = np.repeat(np.arange(len(many_keys)), counts)
    within = np.arange(len(many)) - np.repeat(np.cumsum(counts) - counts, counts)
    return _Pairs(many, order[starts[many_keys][many] + within])


def _at_once(present: BoolArray, keys: Int64Array, count: int) -> int | None:
    """A key of which two rows are present at one step; None for none."""
    if not _has_repeated(keys):
        return None
    counts = np.zeros((count, present.shape[1]), np.int64)
    np.add.at(counts, keys, present)
    twice = np.flatnonzero((counts > 1).any(axis=1))
    return int(twice[0]) if len(twice) else None


def _check_unique(one: Vector, keys: Int64Array, count: int, matching: Matching, side: str) -> None:
    key = _at_once(one.present, keys, count)
    if key is None:
        return
    rows = np.flatnonzero(keys == key)[:2]
    shown = ", ".join(labels_text(one.labels.labels(int(row))) for row in rows)
    how = f"{'on' if matching.on else 'ignoring'} ({', '.join(matching.names)})"
    raise InvalidInputError(
        "query",
        shown,
        f"one series for each match {how} on the {side} side of the operator",
        hint="Name more labels in `on`, or aggregate that side first.",
    )


def _check_one_to_one(
    present: BoolArray, many: Vector, pairs: _Pairs, keys: Int64Array, count: int
) -> None:
    key = _at_once(present, keys[pairs.many], count)
    if key is None:
        return
    rows = np.flatnonzero(keys == key)[:2]
    shown = ", ".join(labels_text(many.labels.labels(int(row))) for row in rows)
    raise InvalidInputError(
        "query",
        shown,
        "one series on each side of the operator for each match",
        hint="Write group_left or group_right where one side has several.",
    )


def _result_labels(op: str, many: LabelTable, one: LabelTable, matching: Matching) -> LabelTable:
    labels = many
    if op in ARITHMETIC or matching.as_bool:
        labels = labels.without([METRIC_NAME])
    if not matching.many:
        labels = labels.keep(matching.names) if matching.on else labels.without(matching.names)
        if op in ARITHMETIC or matching.as_bool:
            labels = labels.without([METRIC_NAME])
    for name in matching.include:
        labels = labels.replace(name, one.column(name))
    return labels
