"""Values and timestamps as the two formats write them, singly and in bulk."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray

NORMAL_NAN_BITS = 0x7FF8000000000001
"""Every NaN that a target says becomes this one. Source: Prometheus, model/value/value.go."""

_PLAIN = b"0123456789eE.+-"
"""Of these characters `float` and Go's ParseFloat take exactly the same numbers; of others `float`
takes more: underscores, blanks, signed NaN."""
_SPECIAL = re.compile(rb"[+-]?inf(?:inity)?|nan", re.IGNORECASE)
_NUMBER = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class ExpositionFormat(StrEnum):
    """Which of the two formats a body is in."""

    TEXT = "text"
    """Prometheus text 0.0.4; timestamps are milliseconds."""
    OPENMETRICS = "openmetrics"
    """OpenMetrics 1.0; timestamps are seconds, the end is marked, spaces count."""


def parse_number(text: bytes) -> float:
    """A number as Go's ParseFloat takes it, without its hexadecimal and underscore forms.

    Raises:
        ValueError: it is none, or is beyond what a double holds.
    """
    if _NUMBER.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise ValueError("beyond the range of a double")
        return value
    if _SPECIAL.fullmatch(text):
        return float(text)
    raise ValueError("not a number")


def is_number(text: bytes) -> bool:
    """Tell whether `parse_number` takes it."""
    try:
        parse_number(text)
    except ValueError:
        return False
    return True


def has_odd(texts: Iterable[bytes]) -> bool:
    """Tell whether any text has a character that a plain number has not."""
    return bool(b"".join(texts).translate(None, _PLAIN))


def is_odd_non_number(text: bytes) -> bool:
    """Tell whether a text cannot be a number because of its characters."""
    return bool(text.translate(None, _PLAIN)) and not is_number(text)


def parse_numbers(texts: Sequence[bytes]) -> FloatArray | None:
    """Values of many numbers; None where one of them is none. NaN has `NORMAL_NAN_BITS`."""
    import numpy as np

    if has_odd(texts) and any(map(is_odd_non_number, texts)):
        return None
    try:
        values = np.array(list(map(float, texts)), np.float64)
    except ValueError:
        return None
    finite = np.isfinite(values)
    if not finite.all():
        if not all(is_number(texts[index]) for index in np.flatnonzero(~finite).tolist()):
            return None
        normalize_nan(values)
    return values


def normalize_nan(values: FloatArray) -> None:
    """Give every NaN the one form, in place."""
    import numpy as np

    values.view(np.uint64)[np.isnan(values)] = NORMAL_NAN_BITS


def parse_timestamp_ms(text: bytes, form: ExpositionFormat) -> int:
    """Milliseconds of a timestamp; seconds of OpenMetrics are cut, as Prometheus does it.

    Raises:
        ValueError: it is no time that 64 bits of milliseconds hold.
    """
    if form is ExpositionFormat.TEXT:
        ts_ms = int(text) if not text.translate(None, b"0123456789-") else None
    else:
        seconds = parse_number(text)
        ts_ms = int(seconds * 1000) if math.isfinite(seconds * 1000) else None
    if ts_ms is None or not -(2**63) < ts_ms < 2**63:
        raise ValueError("not a time")
    return ts_ms
