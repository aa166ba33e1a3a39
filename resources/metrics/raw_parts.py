"""Samples as Parquet: written in one piece, read by ranges of series, several parts as one.

Invariant: what comes out is ordered by (series, time) with one row per pair, and of several parts
the last one that has a pair decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fleet.metrics.decimals import from_decimals, to_decimals
from resources.metrics.parquet_settings import open_writer
from resources.metrics.row_groups import RowGroupWriter, RowKind
from resources.metrics.series_ranges import RangeReader, concat, cuts, series_starts

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fleet.metrics.samples import FloatArray, Int64Array

ROW_GROUP_ROWS = 262_144
CHUNK_ROWS = 1024 * 1024
"""Rows that a merge holds at a time, about; 24 bytes each, and as much again while it sorts."""
_MIN_ID, _MAX_ID = -(2**63), 2**63 - 1


class Samples(NamedTuple):
    """Columns of one length, ordered by (series, time)."""

    ids: Int64Array
    ts_ms: Int64Array
    values: FloatArray


class Deduplicated(NamedTuple):
    """Samples with one row per (series, time)."""

    samples: Samples
    duplicates: int
    conflicts: int
    """Duplicates whose value differs from the one that was taken."""


def encode_samples(samples: Samples) -> bytes:
    """The bytes of a part; equal samples give equal bytes."""
    writer = SampleWriter()
    writer.write(samples)
    return writer.finish()


class SampleWriter(RowGroupWriter[Samples]):
    """A part of samples that grows piece by piece, and the times that it spans."""

    def __init__(self) -> None:
        """An empty part in memory."""
        kind = RowKind[Samples](
            lambda samples: samples.ids, concat_samples, take_samples, _to_table, _writer
        )
        super().__init__(kind, ROW_GROUP_ROWS)
        self.min_ts_ms, self.max_ts_ms = _MAX_ID, _MIN_ID

    def write(self, rows: Samples) -> None:
        """Append rows that sort behind all before them."""
        if not len(rows.ids):
            return
        self.min_ts_ms = min(self.min_ts_ms, int(np.min(rows.ts_ms)))
        self.max_ts_ms = max(self.max_ts_ms, int(np.max(rows.ts_ms)))
        super().write(rows)


def open_samples(file: pq.ParquetFile) -> RangeReader:
    """A part, to be read by ranges of series."""
    return RangeReader(file, _from_table)


def read_merged(
    readers: Sequence[RangeReader], chunk_rows: int = CHUNK_ROWS
) -> Iterator[Deduplicated]:
    """All samples of parts, by ranges of series; a series is never divided.

    Args:
        readers: in the order of commits.
        chunk_rows: about how many rows a range holds; memory follows from it.
    """
    ends = cuts(readers, chunk_rows)
    ranges = list(pairwise([_MIN_ID, *ends]))

    def read(span: tuple[int, int]) -> Deduplicated:
        return merge_samples([Samples(*reader.read(*span)) for reader in readers])

    # The next range is read while the caller works on this one: both mostly without the lock.
    with ThreadPoolExecutor(1, thread_name_prefix="metric-read") as pool:
        ahead: Future[Deduplicated] | None = None
        for at in range(len(ranges)):
            found = ahead or pool.submit(read, ranges[at])
            piece = found.result()
            ahead = pool.submit(read, ranges[at + 1]) if at + 1 < len(ranges) else None
            yield piece


def merge_samples(parts: Sequence[Samples]) -> Deduplicated:
    """Ordered samples of several parts as one; of equal (series, time) the last part's."""
    there = [part for part in parts if len(part.ids)]
    if len(there) == 1:
        return Deduplicated(there[0], 0, 0)
    joined = concat_samples(there)
    order = np.lexsort((joined.ts_ms, joined.ids))  # stable: later parts stay behind
    return deduplicate(take_samples(joined, order))


def deduplicate(samples: Samples) -> Deduplicated:
    """One row per (series, time): the last of those that are neighbours."""
    ids, ts_ms, values = samples
    if not len(ids):
        return Deduplicated(samples, 0, 0)
    same = (ids[1:] == ids[:-1]) & (ts_ms[1:] == ts_ms[:-1])
    duplicates = int(np.count_nonzero(same))
    if not duplicates:
        return Deduplicated(samples, 0, 0)
    at = np.flatnonzero(same)
    bits = values.view(np.uint64)
    conflicts = int(np.count_nonzero(bits[at] != bits[at + 1]))
    kept = np.ones(len(ids), np.bool_)
    np.logical_not(same, out=kept[:-1])
    return Deduplicated(Samples(ids[kept], ts_ms[kept], values[kept]), duplicates, conflicts)


def take_samples(samples: Samples, which: Any) -> Samples:
    """Some rows: by slice, index or mask."""
    return Samples(samples.ids[which], samples.ts_ms[which], samples.values[which])


def concat_samples(parts: Sequence[Samples]) -> Samples:
    """Samples one after another."""
    return Samples(*concat(parts)) if parts else EMPTY


def _writer(sink: Any) -> Any:
    return open_writer(
        sink,
        _schema(),
        dictionary=("series_id", "exponent"),
        deltas=("ts", "value"),
        statistics=("series_id", "ts"),
    )


def _schema() -> pa.Schema:
    import pyarrow as pa

    names = ("series_id", "ts", "value", "exponent")
    kinds = (pa.int64(), pa.int64(), pa.int64(), pa.int8())
    return pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in zip(names, kinds, strict=True)]
    )


def _to_table(samples: Samples) -> pa.Table:
    import pyarrow as pa

    ids, ts_ms, values = samples
    coded = to_decimals(values, series_starts(ids))
    columns: list[Any] = [ids, ts_ms, coded.whole, coded.exponents]
    arrays: list[Any] = [pa.array(column) for column in columns]
    return pa.table(arrays, schema=_schema())


def _from_table(table: pa.Table) -> Samples:
    ids, ts_ms, whole, exponents = (column.to_numpy() for column in table.columns)
    return Samples(ids, ts_ms, from_decimals(whole, exponents))


EMPTY = Samples(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
