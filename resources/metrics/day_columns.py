"""What a day's record says, in fewer bytes: columns as what follows from the others leaves them.

In parts of 1d a series has one row, so nothing is learned from the row before it. Rows are made
smaller within themselves: extremes and last value as distances from the first, sums as decimals
under the exponent of the series, the spread without bits that no answer needs.

What is not kept to the bit, and how near it stays: `m2` within 2^-37 of itself; `reset_sum` of
values with decimals that fell more than `RESETS_MAX` times, as gauges do, within 127 doubles; of
the pair `total` + `total_low` the sum exactly, but not how it is divided: `total` is the double
nearest to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.metrics.decimals import RAW, from_decimals, to_given_decimals

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray, Int64Array

SPREAD_BITS = 36
"""Bits of `m2` behind its first one: two bytes less, an error of 7e-12 where 1e-9 is promised."""
OFF_MAX = 127
"""Doubles between a sum of decimals and the one that was meant: thousands of them lose less."""
RESETS_MAX = 100
"""So many resets of a day are those of a counter, of which `increase` promises every bit."""
_UNSIGNED_MAX = 2**63 - 1
SUMS = ("total", "reset_sum")
"""Bit i of `sums_as_bits` says that sum i is no decimal: it is stored as the bits of the double."""
WHOLE_BIT = 2
"""Bit of `sums_as_bits` that holds `resets_whole`: a column of its own costs 200 bytes a file."""


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
    away = last - first
    # signs in the lowest bit, so that the upper bytes of all rows are alike
    found["last_away"] = (away << 1) ^ (away >> 63)
    found["m2"] = shortened(found["m2"])
    total, found["total_low"] = _nearest_pair(found["total"], found["total_low"])
    found["total"] = total
    sums = [
        to_given_decimals(found[name], exponents, off_max)
        for name, off_max in zip(SUMS, (0, OFF_MAX), strict=True)
    ]
    for name, one in zip(SUMS, sums, strict=True):
        found[name] = one.whole
    off = np.where(found["resets"] <= RESETS_MAX, sums[1].off, 0)
    found["reset_off"] = off.astype(np.int8)
    as_bits = sum((one.exponents == RAW) << bit for bit, one in enumerate(sums))
    found["sums_as_bits"] = as_bits + (found.pop("resets_whole").astype(np.int8) << WHOLE_BIT)
    return found


def from_day_columns(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns as other parts have them."""
    found = dict(columns)
    first, exponents = found["first"], found["exponent"]
    away = found.pop("last_away")
    found["last"] = first + (((away >> 1) & _UNSIGNED_MAX) ^ -(away & 1))
    found["minimum"] = first - found.pop("below_first")
    found["maximum"] = np.maximum(first, found["last"]) + found.pop("above_both")
    as_bits = found.pop("sums_as_bits")
    found["resets_whole"] = (as_bits >> WHOLE_BIT) & 1 == 1
    for bit, name in enumerate(SUMS):
        raw = (as_bits >> bit) & 1 == 1
        found[name] = from_decimals(found[name], np.where(raw, RAW, exponents).astype(np.int8))
    if "reset_off" in found:  # not in parts of 2026-11-21
        off = found.pop("reset_off").astype(np.int64)
        found["reset_sum"] = (found["reset_sum"].view(np.int64) + off).view(np.float64)
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
