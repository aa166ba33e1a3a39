"""Quantities, and integers and floats as the controller's machine has them."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor, inf, isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.rescaling.batch_proposals import ceil_int32 as ceil_column
from fleet.rescaling.batch_proposals import divide
from fleet.rescaling.go_integers import (
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    INT64_MIN,
    ceil_int32,
    divide_float,
    divide_int64,
    wrap_int32,
    wrap_int64,
)
from fleet.rescaling.quantities import canonical_text, milli_value, quantity_text

_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "e2": 2, "E-4": -4}
_INT64S = st.integers(INT64_MIN, INT64_MAX)


@given(
    digits=st.integers(0, 10**8),
    decimals=st.integers(0, 999),
    suffix=st.sampled_from(sorted(_SUFFIXES)),
    negative=st.booleans(),
)
def test_thousandths_are_the_exact_number_rounded_away_from_zero(
    digits: int, decimals: int, suffix: str, negative: bool
) -> None:
    """The twin is a fraction; so far from the ends of 64 bits there are no quirks."""
    text = f"{'-' if negative else ''}{digits}.{decimals:03}{suffix}"
    exact = Fraction(digits * 1000 + decimals) * Fraction(10) ** _SUFFIXES[suffix]
    if exact * 1000 < 10**18 and not (negative and _SUFFIXES[suffix] < -5):
        assert milli_value(text) == (-ceil(exact) if negative else ceil(exact))
        assert milli_value(canonical_text(text)) == milli_value(text)


@given(milli=st.integers(-(10**15), 10**15))
def test_thousandths_are_written_as_they_are_read(milli: int) -> None:
    """Text and number lead to each other, in the shortest form."""
    text = quantity_text(milli)
    assert milli_value(text) == milli
    assert canonical_text(text) == text


@pytest.mark.parametrize("text", ["", " ", "1 m", "m1", "1mm", "1Kb", "1e", "0x1", "1e1.5", "nan"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    """The error shows the text and what is allowed."""
    with pytest.raises(InvalidInputError, match="allowed: a number with an optional suffix"):
        milli_value(text)


def test_an_exponent_that_no_integer_holds_is_refused() -> None:
    """Where the controller's parser gives up, so do we."""
    with pytest.raises(InvalidInputError):
        milli_value(f"1e{2**63}")
    assert milli_value(f"1e-{'9' * 9}1") == 1
    assert milli_value(f"{'9' * 20}e{'9' * 9}") == 0


@given(dividend=_INT64S, divisor=_INT64S.filter(bool))
def test_integers_divide_towards_zero_and_wrap(dividend: int, divisor: int) -> None:
    """Alone and in a column, as the exact quotient cut towards zero; only one pair overflows."""
    exact = Fraction(dividend, divisor)
    expected = wrap_int64(floor(exact) if exact > 0 else ceil(exact))
    assert divide_int64(dividend, divisor) == expected
    import numpy as np

    with np.errstate(all="ignore"):
        column = divide(np.array([dividend], np.int64), np.array([divisor], np.int64))
    assert column.tolist() == [expected]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1.2, 2),
        (-1.8, -1),
        (inf, INT32_MAX),
        (-inf, INT32_MIN),
        (2.0**31, INT32_MAX),
        (-(2.0**40), INT32_MIN),
        (nan, 0),
    ],
)
def test_floats_become_the_nearest_integer_of_32_bits(number: float, expected: int) -> None:
    """Rounded up, alone and in a column; no number counts as nothing."""
    import numpy as np

    assert ceil_int32(number) == expected
    assert ceil_column(np.array([number])).tolist() == [expected]


def test_numbers_wrap_and_quotients_of_nothing_are_none() -> None:
    """One more than the largest is the least; 0 by 0 is no number, the rest is infinite."""
    assert (wrap_int64(2**63), wrap_int32(2**31)) == (INT64_MIN, INT32_MIN)
    assert wrap_int64(-(2**63) - 1) == INT64_MAX
    assert (divide_float(1, 0), divide_float(-1, 0)) == (inf, -inf)
    assert isnan(divide_float(0, 0))
    assert isnan(divide_float(nan, 0))
