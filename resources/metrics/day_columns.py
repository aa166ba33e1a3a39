"""What a day's record says, in fewer bytes: columns as what follows from the others leaves them.

In parts of 1d a series has one row, so nothing is learned from the row before it. Rows are made
smaller within themselves: extremes and last value as distances from the first, sums as decimals
under the exponent of the series, the spread without bits that no answer needs.

What is not kept to the bit, and how near it stays: `m2` within 2^-37 of itself; `reset_sum` of
values with decimals within 2^-40 (whole ones exactly); of the pair `total` + `total_low` the sum
exactly, but not how it is divided: `total` is the double nearest to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.metrics.decimals import from_decimals, to_given_decimals

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray, Int64Array

SPREAD_BITS = 36
"""Bits of `m2` behind its first one: two bytes less, an error of 7e-12 where 1e-9 is promised."""
RESET_NEARNESS = 2.0**-40
"""Adding up thousands of decimals loses more than this; what is nearest is nearer to the truth."""
DISTANCES = ("below_first", "above_both", "last_away")
"""Of minimum, maximum and last; in place of them."""
FLAGS = ("total_exponent", "reset_exponent")
"""Distance from the row's exponent to that of a sum: 0, or what leads to -1 for its bits."""


def to_day_columns(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns of a part of 1d.

    Args:
        columns: as other parts have them; minimum, maximum, first and last under `exponent`.
    """
    found = dict(columns)
    low, high = found.pop("minimum"), found.pop("maximum")
    first, last, exponents = found["first"], found.pop("last"), found["exponent"]
    # differences of any two int64 wrap around, and come back by wrapping around again
    found["below_first"] = first - low
    found["above_both"] = high - np.maximum(first, last)
    found["last_away"] = last - first
    found["m2"] = shortened(found["m2"])
    total, found["total_low"] = _nearest_pair(found["total"], found["total_low"])
    sums = {
        "total": to_given_decimals(total, exponents),
        "reset": to_given_decimals(found.pop("reset_sum"), exponents, RESET_NEARNESS),
    }
    for name, one in sums.items():
        found["total" if name == "total" else "reset_sum"] = one.whole
        found[f"{name}_exponent"] = (exponents - one.exponents).astype(np.int8)
    return found


def from_day_columns(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns as other parts have them."""
    found = dict(columns)
    first, exponents = found["first"], found["exponent"]
    found["last"] = first + found.pop("last_away")
    found["minimum"] = first - found.pop("below_first")
    found["maximum"] = np.maximum(first, found["last"]) + found.pop("above_both")
    for flag, name in zip(FLAGS, ("total", "reset_sum"), strict=True):
        found[name] = from_decimals(found[name], exponents - found.pop(flag))
    return found


def shortened(values: FloatArray) -> FloatArray:
    """Doubles rounded to `SPREAD_BITS` bits of fraction, halves to even; not finite ones as is."""
    cut = 52 - SPREAD_BITS
    bits: Int64Array = values.view(np.int64)
    half = (1 << (cut - 1)) - 1
    rounded = (bits + half + ((bits >> cut) & 1)) & ~np.int64((1 << cut) - 1)
    near = rounded.view(np.float64)
    found: FloatArray = np.where(np.isfinite(values) & np.isfinite(near), near, values)
    return found


def _nearest_pair(high: FloatArray, low: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same sums, the first of each pair the double that is nearest to it."""
    with np.errstate(all="ignore"):
        total = high + low
        # Neumaier's step: exact also where the low half is the larger one
        rest = np.where(np.abs(high) >= np.abs(low), (high - total) + low, (low - total) + high)
    exact = np.isfinite(total)
    return np.where(exact, total, high), np.where(exact, rest, low)
