"""Machine integers of the controller: it adds and converts in 64 and 32 bits, and so do we.

Sums that do not fit wrap around, and divisions cut towards zero, on every machine. What becomes of
a float that 32 bits cannot hold Go leaves to the machine: on arm64 it is the nearest integer, on
amd64 always the least one. We do as arm64 does: there a metric that explodes asks for the most,
where amd64 would remove replicas.
"""

from __future__ import annotations

from math import ceil, inf, isfinite, isnan, nan

INT32_MAX = 2**31 - 1
INT32_MIN = -(2**31)
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)


def wrap_int64(number: int) -> int:
    """`number` as 64 bits hold it, wrapped around where it does not fit."""
    if INT64_MIN <= number <= INT64_MAX:
        return number
    return (number + 2**63) % 2**64 - 2**63


def wrap_int32(number: int) -> int:
    """`number` as 32 bits hold it, wrapped around where it does not fit."""
    if INT32_MIN <= number <= INT32_MAX:
        return number
    return (number + 2**31) % 2**32 - 2**31


def divide_int64(dividend: int, divisor: int) -> int:
    """Quotient cut towards zero, in 64 bits; the divisor must not be 0."""
    quotient = abs(dividend) // abs(divisor)
    return wrap_int64(quotient if (dividend < 0) == (divisor < 0) else -quotient)


def divide_float(dividend: float, divisor: float) -> float:
    """Quotient of floats, infinite or no number where the divisor is 0, as IEEE 754 has it."""
    if divisor:
        return dividend / divisor
    if not dividend or dividend != dividend:  # noqa: PLR0124 # no number divided stays no number
        return nan
    return inf if dividend > 0 else -inf


def int32_of_float(number: float) -> int:
    """The whole part of `number`; the nearest that 32 bits hold, and 0 for what is no number."""
    if isnan(number):
        return 0
    return int(min(max(number, INT32_MIN), INT32_MAX))


def ceil_int32(number: float) -> int:
    """The next whole number above `number`; the nearest that 32 bits hold."""
    return int32_of_float(ceil(number) if isfinite(number) else number)
