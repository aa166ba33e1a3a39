"""Native histograms as Parquet: samples, and records of buckets of time.

Counts that are whole in a histogram are stored as integers, others by their bits; so every double
comes back bit for bit, and counters are packed as differences. A part is read whole: those of an
hour and shard, some hundred thousand histograms, take some hundred MB.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.metrics.histogram_columns import Histograms, HistogramSamples
from fleet.metrics.histogram_records import STATES, TIMES, HistogramRecords, take_records
from resources.metrics.parquet_settings import open_writer

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from fleet.metrics.samples import FloatArray, Int64Array

ROW_GROUP_ROWS = 32_768
_WHOLE_MAX = 2.0**53
_PLAIN = ("schema", "zero_threshold", "is_whole", "zero_count", "observations", "total")
_LISTS = ("keys", "counts")


def encode_histograms(samples: HistogramSamples) -> bytes:
    """The bytes of a part; equal histograms give equal bytes.

    Args:
        samples: ordered by (series, time), one per pair.
    """
    columns = {"series_id": samples.series_ids, "ts": samples.ts_ms}
    return _encoded(columns, {"": samples.histograms}, ("ts",))


def read_histograms(file: pq.ParquetFile) -> HistogramSamples:
    """All histograms of a part, by series and time."""
    table: Any = file.read()
    return HistogramSamples(
        table.column("series_id").to_numpy(),
        table.column("ts").to_numpy(),
        _histograms(table, ""),
    )


def encode_histogram_records(records: HistogramRecords) -> bytes:
    """The bytes of a part of a rollup; equal records give equal bytes."""
    columns = {name: getattr(records, name) for name in TIMES}
    columns["series_id"] = columns.pop("series_ids")
    states = {f"{name}_": getattr(records, name) for name in STATES}
    return _encoded(columns, states, ("ends_ms", "first_ms", "last_ms"))


def read_histogram_records(file: pq.ParquetFile) -> HistogramRecords:
    """All records of a part, by series and end."""
    table: Any = file.read()
    names = {"series_ids": "series_id"}
    return HistogramRecords(
        *(table.column(names.get(name, name)).to_numpy() for name in TIMES),
        *(_histograms(table, f"{name}_") for name in STATES),
    )


def records_within(
    records: HistogramRecords, ids: Int64Array, start_ms: int, end_ms: int
) -> HistogramRecords:
    """Records of some series whose bucket ends in (start_ms, end_ms]."""
    kept = np.isin(records.series_ids, ids)
    kept &= (records.ends_ms > start_ms) & (records.ends_ms <= end_ms)
    return records if kept.all() else take_records(records, kept)


def _encoded(
    columns: dict[str, Int64Array], states: dict[str, Histograms], deltas: tuple[str, ...]
) -> bytes:
    import pyarrow as pa

    arrays: dict[str, Any] = {name: pa.array(column) for name, column in columns.items()}
    for prefix, one in states.items():
        arrays |= {f"{prefix}{name}": array for name, array in _arrays(one).items()}
    table: Any = pa.table(arrays)
    lists = [f"{prefix}{name}.list.element" for prefix in states for name in _LISTS]
    packed = [f"{prefix}{name}" for prefix in states for name in ("zero_count", "observations")]
    coded = [f"{prefix}{name}" for prefix in states for name in ("schema", "zero_threshold")]
    counters = [name for name in columns if name not in {*deltas, "series_id"}]
    sink = io.BytesIO()
    with open_writer(
        sink,
        table.schema,
        dictionary=("series_id", *counters, *coded),
        deltas=(*deltas, *packed, *lists),
        statistics=("series_id",),
    ) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


def _arrays(found: Histograms) -> dict[str, Any]:
    """One histogram after another as Arrow columns."""
    import pyarrow as pa

    rows = found.rows()
    whole = _are_whole(found.zero_counts) & _are_whole(found.observations)
    whole[rows[~_are_whole(found.counts)]] = False
    offsets = pa.array(found.offsets.astype(np.int32))
    lists: Any = pa.ListArray.from_arrays
    plain = (
        found.schemas.astype(np.int8),
        found.zero_thresholds,
        whole,
        _packed(found.zero_counts, whole),
        _packed(found.observations, whole),
        found.totals,
    )
    made: dict[str, Any] = {
        name: pa.array(column) for name, column in zip(_PLAIN, plain, strict=True)
    }
    made["keys"] = lists(offsets, pa.array(found.keys.astype(np.int32)))
    made["counts"] = lists(offsets, pa.array(_packed(found.counts, whole[rows])))
    return made


def _histograms(table: Any, prefix: str) -> Histograms:
    plain = {name: table.column(f"{prefix}{name}").to_numpy() for name in _PLAIN}
    keys, counts = (table.column(f"{prefix}{name}").combine_chunks() for name in _LISTS)
    ends = np.cumsum(keys.value_lengths().to_numpy())
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    whole: Any = plain["is_whole"]
    return Histograms(
        plain["schema"].astype(np.int64),
        plain["zero_threshold"],
        _unpacked(plain["zero_count"], whole),
        _unpacked(plain["observations"], whole),
        plain["total"],
        offsets,
        keys.flatten().to_numpy().astype(np.int64),
        _unpacked(counts.flatten().to_numpy(), np.repeat(whole, np.diff(offsets))),
    )


def _are_whole(values: FloatArray) -> Any:
    return (values == np.rint(values)) & (np.abs(values) <= _WHOLE_MAX) & ~_is_minus_zero(values)


def _is_minus_zero(values: FloatArray) -> Any:
    return (values == 0) & np.signbit(values)


def _packed(values: FloatArray, whole: Any) -> Int64Array:
    """Whole numbers as such, others as their bits."""
    with np.errstate(invalid="ignore"):
        found: Int64Array = np.where(whole, values.astype(np.int64), values.view(np.int64))
    return found


def _unpacked(packed: Int64Array, whole: Any) -> FloatArray:
    found: FloatArray = np.where(whole, packed.astype(np.float64), packed.view(np.float64))
    return found
