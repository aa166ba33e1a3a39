"""Functions of windows: what rate, avg_over_time and their like compute of each.

Those that ask for a window's record alone are answered from any level; the others need samples.

Source: Prometheus, promql/functions.go of v3.9.1 (and v2.42.0 where `Semantics` says so).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from fleet.metrics.answers import Windows
from fleet.promql.extrapolation import factors
from fleet.promql.plan import Need
from fleet.promql.window_context import WindowContext, WindowFunction

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

Found: TypeAlias = "tuple[FloatArray, BoolArray | None]"


class OverTime(NamedTuple):
    """One function of windows."""

    compute: WindowFunction
    need: Need
    keeps_name: bool = False
    """Whether results keep the metric's name: those that are values of the metric do."""


def _rate(windows: Windows, context: WindowContext) -> Found:
    return _extrapolated(windows, context, is_counter=True, is_rate=True)


def _increase(windows: Windows, context: WindowContext) -> Found:
    return _extrapolated(windows, context, is_counter=True, is_rate=False)


def _delta(windows: Windows, context: WindowContext) -> Found:
    return _extrapolated(windows, context, is_counter=False, is_rate=False)


def _extrapolated(
    windows: Windows, context: WindowContext, *, is_counter: bool, is_rate: bool
) -> Found:
    """The step over a window, as if the samples reached its borders (`extrapolation`)."""
    step = windows.risen if is_counter else windows.last - windows.first
    factor = factors(
        windows.n,
        windows.first_ms,
        windows.last_ms,
        context,
        is_rate=is_rate,
        zero=(windows.first, step) if is_counter else None,
    )
    return step * factor, windows.n > 1


def _of_last_two(windows: Windows, *, is_rate: bool) -> Found:
    """The step between the last two samples; per second for irate, which also knows resets."""
    several = windows.high - windows.low > 1
    last, before = windows.high - 1, np.maximum(windows.high - 2, 0)
    value, earlier = windows.runs.last[last], windows.runs.last[before]
    step = value - earlier
    if is_rate:
        step = np.where(value < earlier, value, step)
        step = step / ((windows.runs.last_ms[last] - windows.runs.last_ms[before]) / 1000)
    return step, several


def _quantile(windows: Windows, context: WindowContext) -> Found:
    """The quantile of the samples, interpolated between neighbours; of sketches elsewhere."""
    found = np.empty(len(windows.low))
    for part in windows.laid_out():
        values = windows.runs.last[part.rows]
        window = np.repeat(np.arange(len(part.counts)), part.counts)
        values = values[value_order(values, window)]
        q = context.parameter[part.windows]
        found[part.windows] = quantiles(values, part.starts, part.counts, q)
    return found, None


def value_order(values: FloatArray, groups: Int64Array) -> Int64Array:
    """Order of values within groups, NaN before everything, as Prometheus sorts."""
    missing = np.isnan(values)
    return np.lexsort((np.where(missing, -np.inf, values), ~missing, groups))


def quantiles(
    values: FloatArray, starts: Int64Array, counts: Int64Array, q: FloatArray
) -> FloatArray:
    """The quantile `q` of each group of sorted values; beyond 0 and 1 it is an infinity."""
    rank = np.clip(q, 0, 1) * (counts - 1.0)
    rank = np.where(np.isnan(rank), 0.0, rank)
    below = np.clip(np.floor(rank).astype(np.int64), 0, counts - 1)
    above = np.minimum(below + 1, counts - 1)
    weight = rank - np.floor(rank)
    found = values[starts + below] * (1 - weight) + values[starts + above] * weight
    found = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, found))
    return np.where(np.isnan(q), np.nan, found)


def _regression(windows: Windows, origin_ms: Int64Array) -> tuple[FloatArray, FloatArray]:
    """Slope per second and value at `origin_ms` of the least-squares line of each window."""
    slope, intercept = np.empty(len(windows.low)), np.empty(len(windows.low))
    runs = windows.runs
    for part in windows.laid_out():
        values, counts = runs.last[part.rows], part.counts
        origin = origin_ms[part.windows]
        x = (runs.last_ms[part.rows] - np.repeat(origin, counts)) / 1e3
        mean_x = np.add.reduceat(x, part.starts) / counts
        mean_y = np.add.reduceat(values, part.starts) / counts
        dx, dy = x - np.repeat(mean_x, counts), values - np.repeat(mean_y, counts)
        spread = np.add.reduceat(dx * dx, part.starts)
        steep = np.add.reduceat(dx * dy, part.starts) / spread
        first = values[part.starts]
        level = (values == np.repeat(first, counts)).astype(np.int64)
        level = np.add.reduceat(level, part.starts) == counts
        flat = np.where(np.isinf(first), np.nan, 0.0)
        slope[part.windows] = np.where(level, flat, steep)
        at_origin = mean_y - steep * mean_x
        intercept[part.windows] = np.where(level, first + flat, at_origin)
    return slope, intercept


def _deriv(windows: Windows, _: WindowContext) -> Found:
    slope, __ = _regression(windows, windows.first_ms)
    return slope, windows.n > 1


def _predict_linear(windows: Windows, context: WindowContext) -> Found:
    slope, intercept = _regression(windows, context.at_ms)
    return slope * context.parameter + intercept, windows.n > 1


def _simple(compute: Callable[[Windows], FloatArray], *, name: bool = False) -> OverTime:
    def of_record(windows: Windows, _: WindowContext) -> Found:
        return compute(windows), None

    return OverTime(of_record, Need.RECORD, name)


OVER_TIME: dict[str, OverTime] = {
    "rate": OverTime(_rate, Need.COUNTED),
    "increase": OverTime(_increase, Need.COUNTED),
    "delta": OverTime(_delta, Need.RECORD),
    "irate": OverTime(lambda w, _: _of_last_two(w, is_rate=True), Need.SAMPLES),
    "idelta": OverTime(lambda w, _: _of_last_two(w, is_rate=False), Need.SAMPLES),
    "resets": _simple(lambda w: w.resets.astype(np.float64)),
    "changes": _simple(lambda w: w.changes.astype(np.float64)),
    "count_over_time": _simple(lambda w: w.n.astype(np.float64)),
    "sum_over_time": _simple(lambda w: w.total),
    "avg_over_time": _simple(lambda w: w.mean),
    "min_over_time": _simple(lambda w: w.minimum),
    "max_over_time": _simple(lambda w: w.maximum),
    "first_over_time": _simple(lambda w: w.first, name=True),
    "last_over_time": _simple(lambda w: w.last, name=True),
    "stdvar_over_time": _simple(lambda w: w.m2 / w.n),
    "stddev_over_time": _simple(lambda w: np.sqrt(w.m2 / w.n)),
    "present_over_time": _simple(lambda w: np.ones(len(w.low))),
    "absent_over_time": _simple(lambda w: np.ones(len(w.low))),
    "quantile_over_time": OverTime(_quantile, Need.SKETCH),
    "deriv": OverTime(_deriv, Need.SAMPLES),
    "predict_linear": OverTime(_predict_linear, Need.SAMPLES),
}
"""Functions of windows by name. `absent_over_time` is turned around by its caller."""
