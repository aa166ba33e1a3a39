"""Values as whole numbers with a decimal exponent for each series, where nothing is lost by it.

Counters are whole and gauges have a few decimals: as integers they compress to a third. An exponent
is taken for a series only when every value comes back bit for bit.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.metrics.samples import STALE_BITS

if TYPE_CHECKING:
    import numpy.typing as npt

    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

    Int8Array = npt.NDArray[np.int8]

EXPONENTS = (0, 1, 2, 3, 4, 6, 9)
RAW = -1
"""Exponent of a series whose integers are the bits of its values."""
_WHOLE_MAX = 2.0**53
_LOWEST = -(2**63)
SPECIAL_BITS = (
    STALE_BITS,
    0x7FF8000000000000,
    0x7FF0000000000000,
    0xFFF0000000000000,
    0x8000000000000000,
)
"""Stale marker, NaN, +Inf, -Inf, -0.0: stored as the lowest integers, in this order."""
_POWERS = np.array([10.0**e if e >= 0 else 1.0 for e in range(-1, 10)])


class Decimals(NamedTuple):
    """Integers and exponents, each as long as the values."""

    whole: Int64Array
    exponents: Int8Array


class NearDecimals(NamedTuple):
    """Integers, exponents, and how far from these decimals the values lie."""

    whole: Int64Array
    exponents: Int8Array
    off: Int64Array
    """In doubles: the bits of a value less those of its decimal; 0 for those written as bits."""


def to_decimals(values: FloatArray, starts: Int64Array) -> Decimals:
    """Write the values of each series as integers.

    Args:
        values: in series one after another.
        starts: index at which each series begins.
    """
    if not len(values):
        return Decimals(np.empty(0, np.int64), np.empty(0, np.int8))
    return to_shared_decimals((values,), starts)[0]


def to_shared_decimals(columns: tuple[FloatArray, ...], starts: Int64Array) -> list[Decimals]:
    """As `to_decimals` for columns of one length that share the exponent of each series."""
    count = len(columns[0])
    if not count:
        return [Decimals(np.empty(0, np.int64), np.empty(0, np.int8)) for _ in columns]
    lengths = np.diff(starts, append=count)
    chosen = np.full(len(starts), RAW, np.int8)
    left = np.arange(len(starts))
    for exponent in EXPONENTS:
        probes = np.all([_fits(one[starts[left]], exponent) for one in columns], axis=0)
        tried = left[probes]
        if not len(tried):
            continue
        rows = _rows_of(starts, lengths, tried, count)
        inner = np.cumsum(lengths[tried]) - lengths[tried]
        fits = np.ones(len(tried), np.bool_)
        for one in columns:
            part = one if rows is None else one[rows]
            fits &= np.logical_and.reduceat(_fits(part, exponent), inner)
        chosen[tried[fits]] = exponent
        left = np.setdiff1d(left, tried[fits], assume_unique=True)
        if not len(left):
            break
    exponents = np.repeat(chosen, lengths)
    return [Decimals(_encode(one, exponents), exponents) for one in columns]


def to_given_decimals(values: FloatArray, exponents: Int8Array, off_max: int = 0) -> NearDecimals:
    """Write each value as a decimal under the exponent that is given for it, or else as its bits.

    Args:
        values: one for each exponent.
        exponents: of `EXPONENTS`, or `RAW`.
        off_max: how many doubles beside the decimal's own the value may lie.
    """
    scaled = _POWERS[exponents.astype(np.intp) + 1]
    with np.errstate(all="ignore"):
        whole = np.rint(values * scaled)
        # both of one sign, so no difference of theirs wraps around
        off = values.view(np.int64) - (whole / scaled).view(np.int64)
        fits: BoolArray = (off >= -off_max) & (off <= off_max)
        fits &= (np.abs(whole) < _WHOLE_MAX) & (exponents != RAW)
        fits &= (whole != 0) | (values.view(np.int64) == 0)
    found = np.where(fits, whole, 0.0).astype(np.int64)
    found[~fits] = values[~fits].view(np.int64)
    kept = np.where(fits, exponents, RAW).astype(np.int8)
    return NearDecimals(found, kept, np.where(fits, off, 0))


def from_decimals(whole: Int64Array, exponents: Int8Array) -> FloatArray:
    """Values again, bit for bit."""
    values: FloatArray = whole.astype(np.float64)
    _divide(values, exponents)
    odd = np.flatnonzero(whole < _LOWEST + len(SPECIAL_BITS))
    if len(odd):
        bits = np.array(SPECIAL_BITS, np.uint64).view(np.float64)
        values[odd] = bits[whole[odd] - _LOWEST]
    raw = exponents == RAW
    if raw.any():
        values[raw] = whole[raw].view(np.float64)
    return values


def _divide(values: FloatArray, exponents: Int8Array) -> None:
    """Divide by the power of ten of each row, run by run where there are few."""
    cuts = np.flatnonzero(exponents[1:] != exponents[:-1]) + 1
    if len(cuts) > len(values) // 64:
        values /= _POWERS[exponents.astype(np.intp) + 1]
        return
    for a, b in pairwise([0, *cuts.tolist(), len(values)]):
        if b > a and exponents[a] > 0:
            values[a:b] /= _POWERS[exponents[a] + 1]


def _rows_of(
    starts: Int64Array, lengths: Int64Array, series: Int64Array, count: int
) -> Int64Array | None:
    """Indices of all rows of some series; None for all of them."""
    if len(series) == len(starts):
        return None
    flags = np.zeros(count + 1, np.int8)
    flags[starts[series]] += 1
    flags[starts[series] + lengths[series]] -= 1
    rows: Int64Array = np.flatnonzero(np.cumsum(flags[:-1], dtype=np.int8))
    return rows


def _special(values: FloatArray) -> BoolArray:
    """Which values have an integer of their own."""
    bits = values.view(np.uint64)
    odd: BoolArray = ~np.isfinite(values) | (values == 0.0)
    at = np.flatnonzero(odd)
    odd[at] = np.isin(bits[at], np.array(SPECIAL_BITS, np.uint64))
    return odd


def _fits(values: FloatArray, exponent: int) -> BoolArray:
    """Which values come back bit for bit from an integer with this exponent."""
    power = 10.0**exponent
    with np.errstate(all="ignore"):
        scaled = np.rint(values * power)
        same: BoolArray = (scaled / power).view(np.uint64) == values.view(np.uint64)
        same &= np.abs(scaled) < _WHOLE_MAX
    if not same.all():
        at = np.flatnonzero(~same)
        same[at] = _special(values[at])
    return same


def _encode(values: FloatArray, exponents: Int8Array) -> Int64Array:
    """Integers of values whose exponents fit."""
    raw = exponents == RAW
    with np.errstate(all="ignore"):
        scaled = np.rint(values * _POWERS[exponents.astype(np.intp) + 1])
        odd = _special(values)
        scaled[odd | raw] = 0.0
        whole: Int64Array = scaled.astype(np.int64)
    at = np.flatnonzero(odd & ~raw)
    if len(at):
        bits = values[at].view(np.uint64)
        for code, special in enumerate(SPECIAL_BITS):
            whole[at[bits == np.uint64(special)]] = _LOWEST + code
    whole[raw] = values[raw].view(np.int64)
    return whole
