"""Arrow arrays straight from buffers, for the paths that every backup takes.

Arrow's own converters (`pa.array`, `pa.scalar`, Python values given to its functions) first ask
whether they were given something of pandas, and import it to find out: 34 MB and half a second of
a process that never uses it. `tests/resources/vault/test_memory.py` holds that a backup does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def strings(values: Sequence[str]) -> Any:
    """Text, without nulls."""
    import numpy as np
    import pyarrow as pa

    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, encoded), np.int32, len(encoded)), out=offsets[1:])
    data = pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets.data), data)


def text(value: str) -> Any:
    """One text as Arrow's functions take it."""
    return strings([value])[0]


def numbers(values: Any, kind: Any = None) -> Any:
    """Whole numbers, without nulls.

    Args:
        values: numbers of Python or NumPy, or a buffer of int64.
        kind: Arrow type of them, or of moments counted in them; None for int64.
    """
    import numpy as np
    import pyarrow as pa

    kind = kind or pa.int64()
    width = np.dtype(f"i{kind.bit_width // 8}")
    array = np.ascontiguousarray(np.asarray(values, width))
    return pa.Array.from_buffers(kind, len(array), [None, pa.py_buffer(array.data)])


def number(value: int, kind: Any = None) -> Any:
    """One whole number as Arrow's functions take it."""
    return numbers([value], kind)[0]


def fixed_bytes(values: Sequence[bytes], width: int) -> Any:
    """Values of one length, without nulls."""
    import pyarrow as pa

    data = pa.py_buffer(b"".join(values))
    return pa.Array.from_buffers(pa.binary(width), len(values), [None, data])


def same_text(value: str, count: int) -> Any:
    """One text again and again."""
    import pyarrow as pa

    return pa.repeat(text(value), count)


def flags(value: bool, count: int) -> Any:
    """One truth value again and again."""
    import pyarrow as pa

    bits = (b"\xff" if value else b"\x00") * (-(-count // 8))
    return pa.Array.from_buffers(pa.bool_(), count, [None, pa.py_buffer(bits)])


def empty(schema: Any) -> Any:
    """A table without rows, with one empty chunk a column."""
    import pyarrow as pa

    return pa.Table.from_arrays([pa.nulls(0, one.type) for one in schema], schema=schema)


def as_numbers(column: Any) -> Any:
    """Whole numbers without nulls as NumPy sees them, in place where they are one chunk."""
    import numpy as np

    array = one_chunk(column)
    if not len(array):
        return np.empty(0, np.int64)
    width = np.dtype(f"i{array.type.bit_width // 8}")
    return np.frombuffer(array.buffers()[1], width)[array.offset : array.offset + len(array)]


def as_flags(column: Any) -> Any:
    """Truth values without nulls as NumPy's."""
    import numpy as np

    array = one_chunk(column)
    if not len(array):
        return np.empty(0, bool)
    bits = np.unpackbits(np.frombuffer(array.buffers()[1], np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(bool)


def one_chunk(column: Any) -> Any:
    """A column as one array."""
    import pyarrow as pa

    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.combine_chunks() if column.num_chunks else pa.nulls(0, column.type)
