"""Values as Go's `fmt` writes them, as far as templates of rules can see it.

Templates print floats with `%v` (the shortest digits that read back the same, an exponent from 1e6
on and below 1e-4) and format with `printf`. A verb that does not fit its value is written into the
text, as Go does: it never fails.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_VERB = re.compile(r"%([-+# 0]*)(\d+)?(?:\.(\d*))?(.)?", re.DOTALL)
_EXPONENT_FROM = 6
"""Exponent from which the shortest form writes one. Source: Go, strconv/ftoa.go (`%e is used`)."""


def go_float(value: float, form: str = "g", precision: int = -1) -> str:
    """A float in Go's `strconv.FormatFloat`.

    Args:
        value: to write.
        form: `e`, `f` or `g`.
        precision: digits; -1 for the fewest that read back as the same value.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if precision >= 0:
        return f"{value:.{precision}{form}}" if form != "g" else f"{value:.{max(precision, 1)}g}"
    sign, digits, exponent = _shortest(value)
    if form == "g":
        form = "e" if exponent < -4 or exponent >= _EXPONENT_FROM else "f"
    if form == "e":
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{exponent:+03d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    rest = digits[exponent + 1 :]
    return f"{sign}{whole}.{rest}" if rest else f"{sign}{whole}"


def _shortest(value: float) -> tuple[str, str, int]:
    """Sign, shortest digits and decimal exponent: 1250.0 is ('', '125', 3)."""
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, part = mantissa.lstrip("-").partition(".")
    part = part.rstrip("0")
    digits = (whole + part).lstrip("0")
    if not digits:
        return sign, "0", 0
    leading = len(whole + part) - len(digits)
    return sign, digits.rstrip("0") or "0", int(exponent or 0) + len(whole) - 1 - leading


def go_value(value: Any) -> str:
    """A value as `%v` writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return go_float(value)
    if isinstance(value, Mapping):
        inner = " ".join(f"{name}:{go_value(value[name])}" for name in sorted(value))
        return f"map[{inner}]"
    return "<no value>" if value is None else str(value)


def go_print(values: Sequence[Any]) -> str:
    """`fmt.Sprint`: a space between two values of which neither is a text."""
    parts: list[str] = []
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            parts.append(" ")
        parts.append(go_value(value))
    return "".join(parts)


def go_printf(form: str, values: Sequence[Any]) -> str:
    """`fmt.Sprintf` for texts, whole numbers, floats and booleans."""
    waiting = list(values)

    def replace(found: re.Match[str]) -> str:
        flags, width, precision, verb = found.groups()
        if verb == "%":
            return "%"
        if verb is None:
            return "%!(NOVERB)"
        if not waiting:
            return f"%!{verb}(MISSING)"
        given = None if precision is None else int(precision or 0)
        return _formatted(flags, int(width or 0), given, verb, waiting.pop(0))

    text = _VERB.sub(replace, form)
    if waiting:
        extra = ", ".join(f"{_type(value)}={go_value(value)}" for value in waiting)
        text += f"%!(EXTRA {extra})"
    return text


def _formatted(flags: str, width: int, precision: int | None, verb: str, value: Any) -> str:
    """One value under one verb."""
    body = _body(flags, precision, verb, value)
    if body is None:
        return f"%!{verb}({_type(value)}={go_value(value)})"
    if "-" in flags:
        return body.ljust(width)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if "0" in flags and numeric and body.lstrip("+-")[:1].isdigit():
        sign = body[:1] if body[:1] in {"+", "-"} else ""
        return sign + body[len(sign) :].rjust(width - len(sign), "0")
    return body.rjust(width)


def _body(flags: str, precision: int | None, verb: str, value: Any) -> str | None:
    """Without its padding; None where the verb does not fit the value."""
    if isinstance(value, bool):
        return go_value(value) if verb in "tv" else None
    if isinstance(value, float):
        return _float_body(flags, precision, verb, value)
    if isinstance(value, int):
        return _int_body(flags, verb, value)
    if isinstance(value, str):
        cut = value if precision is None else value[:precision]
        forms: dict[str, Callable[[], str]] = {
            "s": lambda: cut,
            "v": lambda: cut,
            "q": lambda: json.dumps(cut, ensure_ascii=False),
            "x": lambda: cut.encode().hex(),
            "X": lambda: cut.encode().hex().upper(),
        }
        return forms[verb]() if verb in forms else None
    return go_value(value) if verb in "sv" else None


def _float_body(flags: str, precision: int | None, verb: str, value: float) -> str | None:
    if verb not in "eEfFgGv":
        return None
    form = {"F": "f", "v": "g"}.get(verb, verb.lower())
    fixed = 6 if precision is None and form in "ef" else precision
    body = go_float(value, form, -1 if fixed is None else fixed)
    if verb in "EG" and math.isfinite(value):
        body = body.upper()
    if body == "+Inf":
        body = "Inf" if " " in flags and "+" not in flags else body
    return _signed(flags, body)


def _int_body(flags: str, verb: str, value: int) -> str | None:
    if verb == "c":
        return chr(value) if 0 <= value <= 0x10FFFF else "\ufffd"
    form = {"d": "d", "v": "d", "x": "x", "X": "X", "o": "o", "b": "b"}.get(verb)
    return None if form is None else _signed(flags, f"{value:{form}}")


def _signed(flags: str, body: str) -> str:
    if body[:1] in {"+", "-"}:
        return body
    return f"+{body}" if "+" in flags else f" {body}" if " " in flags else body


def _type(value: Any) -> str:
    """Name of the Go type that a value stands for."""
    names = {bool: "bool", str: "string", float: "float64", int: "int"}
    return names.get(type(value), "map[string]string")
