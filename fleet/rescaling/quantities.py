"""Quantities as Kubernetes writes them (`1500m`, `2Gi`, `1e3`), as whole thousandths.

The controller computes with `Quantity.MilliValue`: thousandths, rounded away from zero. What it
does at the far ends is kept too (below): a decision must be the same there.

Quirks of the source, all kept:
    * A quantity is held as a 64-bit integer with a power of ten while it has few digits, else as
      a decimal of nine places. Negative decimals of the second kind round towards zero or above.
    * Thousandths that do not fit 64 bits wrap around or become 0, they do not saturate; only
      binary suffixes are capped, at 2**63 - 1 units.
    * A sign or a point without a digit counts as 0.

Source: Kubernetes v1.36, `staging/src/k8s.io/apimachinery/pkg/api/resource/`, `quantity.go`,
`scale_int.go`, `amount.go`, `math.go`.
"""

from __future__ import annotations

import math
import re
from typing import Literal, NamedTuple

from fleet.errors import InvalidInputError
from fleet.rescaling.go_integers import INT64_MAX, INT64_MIN, wrap_int32, wrap_int64

_FORM = re.compile(r"([+-]?)([0-9]*)(?:(\.)([0-9]*))?([eEinumkKMGTP]*[+-]?[0-9]*)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DIGITS_FAST = 18
"""Decimal digits that the controller keeps in a 64-bit integer."""
_BINARY_BASE = 2
_NANO = 10**9
_POWER_MAX = 200
"""Above it the last 64 bits are all 0, whatever the power."""
_ALLOWED = "a number with an optional suffix (n u m k M G T P E, Ki Mi Gi Ti Pi Ei, e3)"
_HINT = "Examples: 500m, 2, 1.5, 64Mi, 1e3."


class _Parts(NamedTuple):
    negative: bool
    digits: str
    """Before the point, without leading zeros; `0` when there are none."""
    decimals: str
    base: Literal[2, 10]
    exponent: int
    by_exponent: bool = False
    """Written as `1e3`."""


class _Small(NamedTuple):
    """`value * 10**scale`, the value in 64 bits."""

    value: int
    scale: int


class _Decimal(NamedTuple):
    """Billionths, of any length."""

    nano: int
    capped: bool = False
    """Cut at 2**63 - 1 units."""


def milli_value(text: str) -> int:
    """Thousandths of a quantity, as the controller reads them.

    Args:
        text: as in a document, `250m`.

    Raises:
        InvalidInputError: no quantity; Kubernetes' API refuses it as well.

    Source: `Quantity.MilliValue`.
    """
    amount = _amount(_parts(text))
    return _milli_of_small(amount) if isinstance(amount, _Small) else _milli_of_decimal(amount)


def sign_of(text: str) -> int:
    """-1, 0 or 1, also where the thousandths do not fit; the API asks for the sign only."""
    amount = _amount(_parts(text))
    number = amount.value if isinstance(amount, _Small) else amount.nano
    return (number > 0) - (number < 0)


def float_value(text: str) -> float:
    """A quantity as the float that the controller gets from it.

    It multiplies the digits by the power of ten, which is not always the float nearest to the
    number: `0.35` and `350m` differ.

    Source: `Quantity.AsApproximateFloat64`.
    """
    amount = _amount(_parts(text))
    if isinstance(amount, _Decimal):
        units = float(amount.nano) * (1.0 / _NANO)
        return math.copysign(INT64_MAX, units) if amount.capped else units
    if amount.scale >= 0:
        return float(amount.value) * 10.0 ** min(amount.scale, _POWER_MAX)
    return float(amount.value) * (1.0 / _power_of_ten(-amount.scale))


def canonical_text(text: str) -> str:
    """A quantity as the API stores it and prints it back: `0.35` as `350m`, `1024Ki` as `1Mi`.

    Source: `Quantity.String`; like it, a number too large for the largest suffix loses its suffix.
    """
    parts = _parts(text)
    amount = _amount(parts)
    digits, exponent = amount if isinstance(amount, _Small) else (amount.nano, -9)
    if not digits:
        return "0"
    if parts.base == _BINARY_BASE:
        whole, rest = divmod(abs(digits), 10**-exponent)
        if whole >= 1024 and not rest:  # the first binary suffix
            power = 0
            while whole % 1024 == 0:
                whole, power = whole // 1024, power + 10
            suffix = next((name for name, one in _BINARY.items() if one == power), "")
            return f"{'-' if parts.negative else ''}{whole}{suffix}"
    while digits % 10 == 0:
        digits, exponent = digits // 10, exponent + 1
    while exponent % 3:
        digits, exponent = digits * 10, exponent - 1
    if parts.by_exponent:
        return f"{digits}e{exponent}" if exponent else str(digits)
    return f"{digits}{next((name for name, one in _DECIMAL.items() if one == exponent), '')}"


def quantity_text(milli: int) -> str:
    """Thousandths in Kubernetes' shortest decimal form: `1500` is `1500m`, `2000` is `2`."""
    if not milli:
        return "0"
    exponent = -3
    while milli % 1000 == 0 and exponent < 18:  # E, the last suffix
        milli //= 1000
        exponent += 3
    suffix = next(suffix for suffix, power in _DECIMAL.items() if power == exponent)
    return f"{milli}{suffix}"


def _parts(text: str) -> _Parts:
    """The pieces of a quantity, its suffix understood."""
    match = _FORM.fullmatch(text)
    if not text or match is None:
        raise InvalidInputError("quantity", text, _ALLOWED, hint=_HINT)
    sign, digits, _, decimals, suffix = match.groups()
    base: Literal[2, 10] = 10
    by_exponent = False
    if suffix in _DECIMAL:
        exponent = _DECIMAL[suffix]
    elif suffix in _BINARY:
        base, exponent = 2, _BINARY[suffix]
    elif suffix[0] in "eE" and re.fullmatch(r"[+-]?[0-9]+", suffix[1:]):
        exponent = int(suffix[1:])
        if not INT64_MIN <= exponent <= INT64_MAX:
            raise InvalidInputError("quantity", text, _ALLOWED, hint=_HINT)
        exponent, by_exponent = wrap_int32(exponent), True
    else:
        raise InvalidInputError("quantity", text, _ALLOWED, hint=_HINT)
    whole = digits.lstrip("0") or "0"
    return _Parts(sign == "-", whole, decimals or "", base, exponent, by_exponent)


def _amount(parts: _Parts) -> _Small | _Decimal:
    """The quantity in the form in which the controller holds it."""
    small = _small(parts)
    if small is not None:
        return small
    digits = int(parts.digits + parts.decimals)
    if parts.base == _BINARY_BASE:
        nano = _rounded_up(digits << parts.exponent, 9 - len(parts.decimals))
        capped = nano > INT64_MAX * _NANO
        nano = min(nano, INT64_MAX * _NANO)
    else:
        nano = _rounded_up(digits, 9 + parts.exponent - len(parts.decimals))
        capped = False
    return _Decimal(-nano if parts.negative else nano, capped)


def _small(parts: _Parts) -> _Small | None:
    """The quantity as a 64-bit integer with a power of ten; None when it has too many digits."""
    length = len(parts.digits) + len(parts.decimals)
    if parts.base != _BINARY_BASE:
        scale = parts.exponent - len(parts.decimals)
        if length > _DIGITS_FAST or scale < -9:  # billionths
            return None
        value = int(parts.digits + parts.decimals)
    else:
        room = 15 - len(parts.digits) - int(parts.exponent * 3 / 10) - 1
        value = int(parts.digits) << parts.exponent
        if parts.decimals or room < 0 or value > INT64_MAX:
            return None
        scale = 0
    return _Small(-value if parts.negative else value, scale)


def _rounded_up(digits: int, power: int) -> int:
    """`digits * 10**power`, rounded up; never a power so large that it cannot be held."""
    if power >= 0:
        return digits * _power_of_ten(min(power, _POWER_MAX))
    if -power > len(str(digits)):
        return 1 if digits else 0
    return -(-digits // _power_of_ten(-power))


def _power_of_ten(power: int) -> int:
    """10 to a power of 0 or more."""
    return int(10**power)


def _milli_of_small(amount: _Small) -> int:
    """Thousandths of an integer with a power of ten, with what overflow does there."""
    power = amount.scale + 3
    if power < 0:
        rounded = _rounded_up(abs(amount.value), power)
        return rounded if amount.value >= 0 else -rounded
    product = amount.value * _power_of_ten(min(power, _POWER_MAX))
    if power in {0, 1, 2, 3, 6, 9}:  # these products wrap, all others become 0
        return wrap_int64(product)
    return product if INT64_MIN <= product <= INT64_MAX else 0


def _milli_of_decimal(amount: _Decimal) -> int:
    """Thousandths of a decimal; what is left over adds one, whatever the sign."""
    if amount.capped:
        units = -INT64_MAX if amount.nano < 0 else INT64_MAX
        return wrap_int64(units * 1000)
    if amount.nano >= INT64_MAX:
        return wrap_int64(-(-amount.nano // 10**6))
    nano = wrap_int64(amount.nano)
    quotient, rest = divmod(abs(nano), 10**6)
    return (quotient if nano >= 0 else -quotient) + (1 if rest else 0)
