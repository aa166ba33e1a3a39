"""Functions of values at a moment: arithmetic, clocks, order, and what is absent.

Source: Prometheus, promql/functions.go of v3.9.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fleet.metrics.labels import METRIC_NAME, Matcher, MatchKind
from fleet.promql.label_table import LabelTable, constant_column
from fleet.promql.values import Scalar, Vector, single_row

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray

DAY_S = 86_400


def _round(values: FloatArray, nearest: FloatArray) -> FloatArray:
    inverse = 1.0 / nearest
    found: FloatArray = np.floor(values * inverse + 0.5) / inverse
    return found


def _sign(values: FloatArray) -> FloatArray:
    return np.where(values < 0, -1.0, np.where(values > 0, 1.0, values))


ELEMENTWISE: dict[str, Callable[[FloatArray], FloatArray]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sqrt": np.sqrt,
    "sgn": _sign,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "deg": lambda values: values * 180 / np.pi,
    "rad": lambda values: values * np.pi / 180,
}
"""Functions of one value."""


def rounded(vector: Vector, nearest: Scalar) -> Vector:
    """The multiple of `nearest` that is closest; halves go up."""
    return vector.computed(_round(vector.values, nearest.values))


def clamped(vector: Vector, low: Scalar | None, high: Scalar | None) -> Vector:
    """Values held between bounds; nothing at steps where the bounds exclude each other."""
    values, present = vector.values, vector.present
    if high is not None:
        values = np.minimum(values, high.values)
    if low is not None:
        values = np.maximum(values, low.values)
    if low is not None and high is not None:
        present = present & ~(high.values < low.values)
    return replace(vector, values=values, present=present).compact().nameless()


def _civil(seconds: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Year, month from 1 and days since 1970 of moments in UTC; NaN stays NaN."""
    days = np.floor(np.trunc(seconds) / DAY_S)
    known = np.isfinite(days) & (np.abs(days) < 3e8)
    dates = np.where(known, days, 0).astype("datetime64[D]")
    months = dates.astype("datetime64[M]").astype(np.int64)
    year, month = 1970.0 + months // 12, 1.0 + months % 12
    gone: FloatArray = np.where(known, 0.0, np.nan)
    return year + gone, month + gone, np.asarray(days, np.float64)


def _first_day(years: FloatArray, months: FloatArray) -> FloatArray:
    """Days since 1970 of the first of a month; months from 1, 13 is the next January."""
    known = np.isfinite(years)
    count = np.where(known, (years - 1970) * 12 + months - 1, 0).astype(np.int64)
    days = count.astype("datetime64[M]").astype("datetime64[D]").astype(np.float64)
    return np.where(known, days, np.nan)


def _of_day(unit_s: int, per: int) -> Callable[[FloatArray], FloatArray]:
    def compute(seconds: FloatArray) -> FloatArray:
        found: FloatArray = np.floor(np.trunc(seconds) / unit_s) % per
        return found

    return compute


def _day_of_month(seconds: FloatArray) -> FloatArray:
    year, month, days = _civil(seconds)
    return days - _first_day(year, month) + 1


def _day_of_year(seconds: FloatArray) -> FloatArray:
    year, _, days = _civil(seconds)
    return days - _first_day(year, np.ones(year.shape)) + 1


def _days_in_month(seconds: FloatArray) -> FloatArray:
    year, month, _ = _civil(seconds)
    return _first_day(year, month + 1) - _first_day(year, month)


CALENDAR: dict[str, Callable[[FloatArray], FloatArray]] = {
    "minute": _of_day(60, 60),
    "hour": _of_day(3600, 24),
    # 1970 began on a Thursday; Sunday is 0
    "day_of_week": lambda seconds: (np.floor(np.trunc(seconds) / DAY_S) + 4) % 7,
    "day_of_month": _day_of_month,
    "day_of_year": _day_of_year,
    "days_in_month": _days_in_month,
    "month": lambda seconds: _civil(seconds)[1],
    "year": lambda seconds: _civil(seconds)[0],
}
"""Functions of seconds since 1970, in UTC; without an argument they take the step's time."""


def to_scalar(vector: Vector) -> Scalar:
    """The value where there is exactly one, else NaN."""
    count = vector.present.sum(axis=0)
    value = np.where(vector.present, vector.values, 0.0).sum(axis=0)
    return Scalar(np.where(count == 1, value, np.nan))


def to_vector(scalar: Scalar) -> Vector:
    """One row without labels."""
    return single_row(scalar.values)


def sorted_by_value(vector: Vector, *, descending: bool) -> Vector:
    """Rows in the order of their values, NaN last; over several steps the order means nothing."""
    if vector.values.shape[1] != 1:
        return vector
    vector = vector.compact()
    values = vector.values[:, 0]
    keys = -values if descending else values
    order = np.lexsort((keys, np.isnan(values)))
    return replace(vector.take(order), ordered=True)


def absent(present: BoolArray, matchers: Sequence[Matcher]) -> Vector:
    """1 at the steps where nothing is present.

    Args:
        present: whether anything is, per step.
        matchers: of the selector that was asked for; its equalities become labels.
    """
    labels = LabelTable(1)
    for name, value in _equalities(matchers).items():
        labels = labels.replace(name, constant_column(value, 1))
    row = single_row(np.ones(len(present)), ~present)
    return replace(row, labels=labels).compact()


def _equalities(matchers: Sequence[Matcher]) -> dict[str, str]:
    """Labels that are asked for by equality, once."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in matchers:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.kind is MatchKind.EQUAL and matcher.name not in seen:
            found[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            found.pop(matcher.name, None)
    return found
