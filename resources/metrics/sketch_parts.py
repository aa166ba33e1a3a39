"""Sketches as Parquet: one row per series and bucket, with lists of bins and counts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.metrics.sketches import SketchColumns
from resources.metrics.parquet_settings import open_writer

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from fleet.metrics.samples import Int64Array

ROW_GROUP_ROWS = 65_536


def encode_sketches(sketches: SketchColumns) -> bytes:
    """The bytes of a part; equal sketches give equal bytes."""
    import pyarrow as pa

    lists: Any = pa.ListArray.from_arrays
    offsets = pa.array(sketches.offsets.astype(np.int32))
    table = pa.table(
        {
            "series_id": pa.array(sketches.series_ids),
            "end": pa.array(sketches.ends_ms),
            "bins": lists(offsets, pa.array(sketches.bins)),
            "counts": lists(offsets, pa.array(sketches.counts)),
        }
    )
    sink = io.BytesIO()
    with open_writer(
        sink,
        table.schema,
        dictionary=("series_id", "counts.list.element"),
        deltas=("end", "bins.list.element"),
        statistics=("series_id",),
    ) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


def read_sketches(file: pq.ParquetFile) -> SketchColumns:
    """All sketches of a part."""
    table: Any = file.read().combine_chunks()
    bins = table.column("bins").combine_chunks()
    counts = table.column("counts").combine_chunks()
    offsets = bins.offsets.to_numpy().astype(np.int64)
    return SketchColumns(
        table.column("series_id").to_numpy(),
        table.column("end").to_numpy(),
        offsets - offsets[0] if len(offsets) else np.zeros(1, np.int64),
        bins.flatten().to_numpy(),
        counts.flatten().to_numpy(),
    )


def take_sketches(
    sketches: SketchColumns, ids: Int64Array, start_ms: int, end_ms: int
) -> SketchColumns:
    """Sketches of some series in a range."""
    kept = np.isin(sketches.series_ids, ids)
    kept &= (sketches.ends_ms > start_ms) & (sketches.ends_ms <= end_ms)
    sizes = np.diff(sketches.offsets)
    rows = np.repeat(kept, sizes)
    return SketchColumns(
        sketches.series_ids[kept],
        sketches.ends_ms[kept],
        np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64),
        sketches.bins[rows],
        sketches.counts[rows],
    )
