"""Numbers of Arrow columns as NumPy arrays and back, straight through their buffers.

Arrow's own conversions (`to_numpy`, `pa.array` and `pa.scalar` of Python values) import pandas to
ask whether it is wanted: half a second of every search from the command line, and 34 MB of every
reader. What a search does goes through here instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from fleet.moments import microseconds
from fleet.ports.index_backend import Mask, Rows

if TYPE_CHECKING:
    import pyarrow as pa


def whole_numbers(column: pa.ChunkedArray[Any]) -> Rows:
    """A column of int64 without nulls; of one chunk, without a copy."""
    return cast("Rows", _numbers(column.chunks, np.dtype(np.int64)))


def fractions(array: pa.Array[Any]) -> npt.NDArray[np.float32]:
    """An array of float32 without nulls, without a copy."""
    return _numbers([array], np.dtype(np.float32))


def _numbers(chunks: Sequence[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    parts = [np.zeros(0, dtype)]
    for chunk in chunks:
        data = np.frombuffer(chunk.buffers()[1], dtype) if len(chunk) else parts[0]
        parts.append(data[chunk.offset : chunk.offset + len(chunk)])
    return parts[1] if len(parts) == 2 else np.concatenate(parts)


def true_rows(column: pa.ChunkedArray[Any]) -> Mask:
    """Which rows of a column of booleans are true; null is not."""
    import pyarrow.compute as pc

    mask = np.zeros(len(column), np.bool_)
    places: Any = pc.indices_nonzero(cast("Any", column))
    mask[_numbers([places], np.dtype(np.uint64))] = True
    return mask


def number_array(numbers: Rows) -> pa.Array[Any]:
    """Whole numbers as an Arrow array."""
    import pyarrow as pa

    data = np.ascontiguousarray(numbers, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(data), [None, pa.py_buffer(data.data)])


def value_array(values: Sequence[object], kind: pa.DataType) -> pa.Array[Any]:
    """Texts or moments as an Arrow array; its elements are scalars.

    Args:
        values: all `str`, or all aware `datetime`.
        kind: `string`, or a timestamp in microseconds.
    """
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        moments = [microseconds(cast("datetime", value)) for value in values]
        return number_array(np.array(moments, np.int64)).cast(kind)
    texts = [str(value).encode() for value in values]
    ends = np.fromiter(accumulate(map(len, texts), initial=0), np.int32, len(texts) + 1)
    buffers = [None, pa.py_buffer(ends.data), pa.py_buffer(b"".join(texts))]
    return pa.Array.from_buffers(kind, len(texts), buffers)
