"""Arrow arrays straight from buffers, for every path that backs up, restores or verifies.

Arrow's own converters (`pa.array`, `pa.scalar`, Python values given to its functions) first ask
whether they were given something of pandas, and import it to find out: 34 MB and half a second of
a process that never uses it. `tests/resources/vault/test_memory.py` holds that none of them does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fleet.moments import microseconds
from fleet.packed_texts import PackedTexts


def strings(values: Sequence[str]) -> Any:
    """Text, without nulls; packed texts in place."""
    import numpy as np
    import pyarrow as pa

    if isinstance(values, PackedTexts):
        packed = (pa.py_buffer(values.offsets), pa.py_buffer(values.data))
        return pa.StringArray.from_buffers(len(values), *packed)
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, encoded), np.int32, len(encoded)), out=offsets[1:])
    data = pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets.data), data)


def optional_strings(values: Sequence[str | None]) -> Any:
    """Text, None for a null."""
    import numpy as np
    import pyarrow as pa

    array = strings([value or "" for value in values])
    valid = np.fromiter((value is not None for value in values), bool, len(values))
    if valid.all():
        return array
    bits = np.packbits(valid, bitorder="little")
    _, offsets, data = array.buffers()
    return pa.StringArray.from_buffers(len(array), offsets, data, pa.py_buffer(bits.data))


def truths(values: Sequence[bool]) -> Any:
    """Truth values, without nulls."""
    import numpy as np
    import pyarrow as pa

    bits = np.packbits(np.fromiter(values, bool, len(values)), bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits.data)])


def column(values: Sequence[Any], kind: Any) -> Any:
    """Values of one kind: texts (None for a null), whole numbers, moments, bytes of one length.

    Args:
        values: moments as dates or in microseconds since 1970.
        kind: Arrow type: string, bool, of whole numbers, timestamp in microseconds, or binary of a
            fixed length.
    """
    import pyarrow as pa

    if kind == pa.string():
        return optional_strings(values)
    if kind == pa.bool_():
        return truths(values)
    if pa.types.is_fixed_size_binary(kind):
        return fixed_bytes(values, kind.byte_width)
    return numbers(
        [microseconds(one) if isinstance(one, datetime) else one for one in values], kind
    )


def table_of(rows: Sequence[Mapping[str, Any]], schema: Any) -> Any:
    """Rows as a table; a text that a row lacks is null."""
    import pyarrow as pa

    columns = [column([row.get(one.name) for row in rows], one.type) for one in schema]
    return pa.Table.from_arrays(columns, schema=schema)


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
    return packed_bytes(b"".join(values), width)


def packed_bytes(data: Any, width: int) -> Any:
    """Values of one length, one after the other in a buffer, in place."""
    import pyarrow as pa

    buffer = pa.py_buffer(data)
    return pa.Array.from_buffers(pa.binary(width), buffer.size // width, [None, buffer])


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


def moments_as_numbers(table: Any, name: str) -> Any:
    """The same rows with the moments of a column in microseconds since 1970.

    Arrow needs pandas, and longer than the hash of a state takes, to make a date of one.
    """
    import pyarrow as pa

    return table.set_column(table.column_names.index(name), name, table[name].cast(pa.int64()))


def one_chunk(column: Any) -> Any:
    """A column as one array."""
    import pyarrow as pa

    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.combine_chunks() if column.num_chunks else pa.nulls(0, column.type)


def fixed_words(column: Any) -> Any:
    """A chunked column of 32-byte values as rows of four words, to be compared at once."""
    import numpy as np

    array = one_chunk(column)
    words = np.frombuffer(array.buffers()[1], np.uint64).reshape(-1, 4)
    return words[array.offset : array.offset + len(array)]
