"""Windows as ranges of rows [low, high): where they lie, what their rows come to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray, Int64Array

DOUBT = 1e-10
"""A plain sum is taken where its error is surely below this part of it, else the exact one."""


def window_bounds(
    offsets: Int64Array, row_ends_ms: Int64Array, starts_ms: Int64Array, ends_ms: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """First row of each (series, step) window and the one behind its last, flat.

    Args:
        offsets: where each series' rows begin, and the end.
        row_ends_ms: the time by which windows choose, ascending within a series.
        starts_ms: one per step, excluded.
        ends_ms: one per step, included.
    """
    series, rows = len(offsets) - 1, len(row_ends_ms)
    if not rows or not len(ends_ms):
        nothing = np.zeros(series * len(ends_ms), np.int64)
        return nothing, nothing
    lowest, highest = int(np.min(row_ends_ms)), int(np.max(row_ends_ms))
    if len(ends_ms) == 1 and lowest > int(starts_ms[0]) and highest <= int(ends_ms[0]):
        return offsets[:-1], offsets[1:]
    base, top = min(lowest, int(np.min(starts_ms))), max(highest, int(np.max(ends_ms)))
    # one ordered key for (series, time), so that one search answers for every series and step
    span = top - base + 1
    of_series = np.arange(series, dtype=np.int64) * span
    keys = np.repeat(of_series, np.diff(offsets)) + (row_ends_ms - base)
    low, high = (
        np.searchsorted(keys, (of_series[:, None] + (bounds - base)[None, :]).ravel(), "right")
        for bounds in (starts_ms, ends_ms)
    )
    return low.astype(np.int64, copy=False), high.astype(np.int64, copy=False)


def reduce_between(
    how: np.ufunc, column: FloatArray, low: Int64Array, high: Int64Array
) -> FloatArray:
    """`how` over rows [low, high) of a column, for each pair; high above low, overlaps allowed."""
    if not len(low):
        return np.empty(0)
    bounds = np.empty(2 * len(low), np.int64)
    bounds[0::2], bounds[1::2] = low, high
    if int(np.max(high)) == len(column):
        column = np.append(column, 0.0)
    found: FloatArray = how.reduceat(column, bounds)[::2]
    return found


def exact_sums(
    column: FloatArray, low_part: FloatArray | None, low: Int64Array, high: Int64Array
) -> FloatArray:
    """Sums of rows [low, high), for each pair; never further than `DOUBT` from the true one.

    Plain addition is checked against the bound of its error; where values cancel out, the sum is
    taken again without rounding in between (`math.fsum`).
    """
    found = reduce_between(np.add, column, low, high)
    size = reduce_between(np.add, np.abs(column), low, high)
    if low_part is not None:
        # what rounding lost beside an infinite sum is not a number, and says nothing
        lost = reduce_between(np.add, low_part, low, high)
        found = np.where(np.isfinite(found), found + lost, found)
    error = size * ((high - low) * np.finfo(np.float64).eps)
    doubtful = np.isfinite(size) & (high - low > 1) & ~(error <= DOUBT * np.abs(found))
    for window in np.flatnonzero(doubtful):
        rows = slice(low[window], high[window])
        parts = column[rows].tolist()
        if low_part is not None:
            parts += low_part[rows].tolist()
        found[window] = math.fsum(parts)
    return found
