"""Records as Parquet: row groups of one size, ordered by (series, end), read by series.

What follows from other columns is not stored again: `mean` is written as its distance, in bits,
from sum / n, which is 0 but where the sum is beyond a double. Older parts have `mean` itself.
`resets_whole` is written for several resets only: of one, their sum says it.
Parts of 1d, where each series has one row, have columns of their own (`day_columns`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.metrics.decimals import from_decimals, to_shared_decimals
from fleet.metrics.levels import Level
from fleet.metrics.record import RollupColumns
from resources.metrics.day_columns import from_day_columns, to_day_columns
from resources.metrics.parquet_settings import open_writer
from resources.metrics.row_groups import RowGroupWriter, RowKind
from resources.metrics.series_ranges import RangeReader, series_starts

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array
    from resources.metrics.series_ranges import Columns

ROW_GROUP_ROWS = 131_072
NAMES = tuple(RollupColumns.__dataclass_fields__)
_DECIMALS = ("minimum", "maximum", "first", "last")
_DELTAS = ("end", *_DECIMALS)
_DICTIONARY = (
    "exponent", "n", "expected", "first_ms", "last_ms", "resets", "changes", "mean_off",
)  # fmt: skip
_REPEATED = ("series_id", "reset_sum", "total_low")
"""Coded by dictionaries, too, where a series has several rows."""
_DAY_DICTIONARY = (
    "exponent", "n", "expected", "first_ms", "last_ms", "mean_off", "sums_as_bits",
    "reset_off",
)  # fmt: skip
_DAY_SPLITS = (
    "m2", "total", "total_low", "reset_sum", "first", "below_first", "above_both", "last_away",
    "resets", "changes",
)  # fmt: skip
"""Numbers of days, byte by byte: bytes that say nothing are zeros beside each other."""


class RecordWriter(RowGroupWriter[RollupColumns]):
    """A part of records that grows piece by piece."""

    def __init__(self, length_ms: int) -> None:
        """An empty part in memory.

        Args:
            length_ms: of the buckets.
        """
        is_day = length_ms == Level.D1
        kind = RowKind[RollupColumns](
            lambda rows: rows.series_ids,
            concat_records,
            take_records,
            lambda rows: _to_table(rows, length_ms, is_day=is_day),
            _day_writer if is_day else _writer,
        )
        super().__init__(kind, ROW_GROUP_ROWS)


def _writer(sink: Any) -> Any:
    return open_writer(
        sink,
        _schema(is_day=False),
        dictionary=(*_DICTIONARY, *_REPEATED),
        deltas=_DELTAS,
        splits=("m2",),
        statistics=("series_id", "end"),
    )


def _day_writer(sink: Any) -> Any:
    return open_writer(
        sink,
        _schema(is_day=True),
        dictionary=_DAY_DICTIONARY,
        deltas=("series_id", "end"),
        splits=_DAY_SPLITS,
        statistics=("series_id", "end"),
    )


def open_records(file: pq.ParquetFile, length_ms: int) -> RangeReader:
    """A part, to be read by ranges of series; its columns are those of `RollupColumns`.

    Args:
        file: of the part.
        length_ms: of the buckets.
    """

    def decode(table: pa.Table) -> Columns:
        rows = _from_table(table, length_ms)
        return tuple(getattr(rows, name) for name in NAMES)

    return RangeReader(file, decode)


def take_records(rows: RollupColumns, which: Any) -> RollupColumns:
    """Some rows: by slice, index or mask."""
    return RollupColumns(*(getattr(rows, name)[which] for name in NAMES))


def concat_records(parts: Sequence[RollupColumns]) -> RollupColumns:
    """Records one after another."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return empty_records()
    return RollupColumns(*(np.concatenate([getattr(one, name) for one in parts]) for name in NAMES))


def empty_records() -> RollupColumns:
    """No record."""
    whole = {"series_ids", "ends_ms", "n", "first_ms", "last_ms", "resets", "changes"}
    columns: dict[str, Any] = {
        name: np.empty(0, np.int64 if name in whole else np.float64) for name in NAMES
    }
    columns["resets_whole"] = np.empty(0, np.bool_)
    return RollupColumns(**columns)


def _schema(*, is_day: bool) -> pa.Schema:
    import pyarrow as pa

    whole, real, short = pa.int64(), pa.float64(), pa.int8()
    kinds = {"series_id": whole, "end": whole, "n": whole, "expected": real}
    if is_day:
        kinds |= {
            "total": whole, "total_low": real, "below_first": whole, "above_both": whole,
            "first_ms": whole, "first": whole, "last_ms": whole, "last_away": whole,
            "reset_sum": whole, "reset_off": short, "sums_as_bits": short,
        }  # fmt: skip
    else:
        kinds |= {
            "total": real, "total_low": real, "minimum": whole, "maximum": whole,
            "first_ms": whole, "first": whole, "last_ms": whole, "last": whole, "reset_sum": real,
            "resets_whole": pa.bool_(),
        }  # fmt: skip
    kinds |= {"resets": whole, "changes": whole, "mean_off": whole, "m2": real, "exponent": short}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])


def _to_table(rows: RollupColumns, length_ms: int, *, is_day: bool) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {name: getattr(rows, name) for name in NAMES}
    columns["series_id"] = columns.pop("series_ids")
    columns["end"] = columns.pop("ends_ms")
    columns["first_ms"] = rows.first_ms - (rows.ends_ms - length_ms)
    columns["last_ms"] = rows.ends_ms - rows.last_ms
    columns["mean_off"] = rows.mean.view(np.int64) - _plain_mean(rows).view(np.int64)
    shared = tuple(columns[name] for name in _DECIMALS)
    coded = to_shared_decimals(shared, series_starts(rows.series_ids))
    for name, one in zip(_DECIMALS, coded, strict=True):
        columns[name] = one.whole
    columns["exponent"] = coded[0].exponents
    columns["resets_whole"] = rows.resets_whole & (rows.resets > 1)
    if is_day:
        columns = to_day_columns(columns)
    schema = _schema(is_day=is_day)
    return pa.table([pa.array(columns[name]) for name in schema.names], schema=schema)


def _from_table(table: pa.Table, length_ms: int) -> RollupColumns:
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    if "last_away" in columns:
        columns = from_day_columns(columns)
    exponents = columns.pop("exponent")
    columns["resets_whole"] = _resets_whole(columns)
    for name in _DECIMALS:
        columns[name] = from_decimals(columns[name], exponents)
    columns["series_ids"] = columns.pop("series_id")
    ends: Int64Array = columns.pop("end")
    columns["ends_ms"] = ends
    columns["first_ms"] = columns["first_ms"] + (ends - length_ms)
    columns["last_ms"] = ends - columns["last_ms"]
    off = columns.pop("mean_off", None)
    if off is None:
        return RollupColumns(**columns)
    rows = RollupColumns(**columns, mean=columns["total"])
    return replace(rows, mean=(_plain_mean(rows).view(np.int64) + off).view(np.float64))


def _resets_whole(columns: dict[str, Any]) -> BoolArray:
    """Whether all values before resets are whole; of a single one, the sum is it."""
    one = columns["reset_sum"] == np.rint(columns["reset_sum"])
    # parts of before do not say it: then several are taken for decimals
    several = columns.get("resets_whole", np.zeros(len(one), np.bool_))
    found: BoolArray = np.where(columns["resets"] > 1, several, one)
    return found


def _plain_mean(rows: RollupColumns) -> FloatArray:
    with np.errstate(all="ignore"):
        return (rows.total + rows.total_low) / rows.n
