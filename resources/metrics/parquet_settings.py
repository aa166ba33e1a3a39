"""How every Parquet file of the store is written: zstd, data pages V2, an encoding for each column.

What pyarrow needs no name for here travels as `Any`: its stubs know fewer types than it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

COMPRESSION_LEVEL = 3


def open_writer(
    sink: Any,
    schema: Any,
    *,
    dictionary: Sequence[str],
    deltas: Sequence[str] = (),
    splits: Sequence[str] = (),
    statistics: Sequence[str] = (),
) -> Any:
    """A `pyarrow.parquet.ParquetWriter`; equal rows in equal row groups give equal bytes.

    Args:
        sink: file object that is written to.
        schema: of the rows.
        dictionary: columns written as codes into a dictionary.
        deltas: columns of whole numbers written as packed differences.
        splits: columns of doubles written byte by byte, all first bytes, then all second ones ...
        statistics: columns of which each row group says the lowest and highest value.
    """
    from pyarrow import parquet

    write: Any = parquet.ParquetWriter
    return write(
        sink,
        schema,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=list(dictionary),
        column_encoding=dict.fromkeys(deltas, "DELTA_BINARY_PACKED")
        | dict.fromkeys(splits, "BYTE_STREAM_SPLIT"),
        data_page_version="2.0",
        write_statistics=list(statistics),
        store_schema=False,
    )
