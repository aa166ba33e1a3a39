"""Vectors that agents send with their notes: read from JSON, or refused with the field's name.

Only the standard library: a supervisor that reads a vector must not load an array library.
"""

from __future__ import annotations

import struct
from typing import Any

from fleet.agents import NoteVector
from fleet.errors import InvalidInputError
from fleet.names import NAME_MAX_CHARS, is_name

DIMENSIONS_MAX = 8192
"""As `fleet.vectors.records.DIMENSIONS_MAX`, which a supervisor does not import: it needs NumPy."""

_FLOAT32_MAX = 3.4028234663852886e38
"""Greatest finite number of IEEE 754 binary32; comparing refuses NaN and infinity, too."""


def parse_vector(value: object, path: str) -> NoteVector | None:
    """A note's vector (`{"model": name, "values": [numbers]}`); None when there is none.

    Args:
        value: of the member `vector`; None when it is missing or null.
        path: of the member, for errors.

    Raises:
        InvalidInputError: no such object, a number that is not finite as float32, all zero.
    """
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != {"model", "values"}:
        found = sorted(value) if isinstance(value, dict) else value
        raise InvalidInputError(path, found, "an object of exactly `model` and `values`")
    model, values = value["model"], value["values"]
    if not isinstance(model, str) or not is_name(model):
        allowed = f"1 to {NAME_MAX_CHARS} letters, digits, '.', '_' or '-'"
        raise InvalidInputError(f"{path}.model", model, allowed)
    if not isinstance(values, list) or not 1 <= len(values) <= DIMENSIONS_MAX:
        found = f"{len(values)} numbers" if isinstance(values, list) else values
        raise InvalidInputError(f"{path}.values", found, f"a list of 1 to {DIMENSIONS_MAX} numbers")
    packed = _packed(values, f"{path}.values")
    if not any(struct.unpack(f"<{len(values)}f", packed)):
        raise InvalidInputError(f"{path}.values", "zeros", "at least one number that is not zero")
    return NoteVector(model, packed)


def _packed(values: list[Any], path: str) -> bytes:
    """Numbers as float32, little-endian."""
    for place, number in enumerate(values):
        if type(number) not in {int, float} or not -_FLOAT32_MAX <= number <= _FLOAT32_MAX:
            raise InvalidInputError(f"{path}[{place}]", number, "a finite number of 32 bits")
    return struct.pack(f"<{len(values)}f", *values)
