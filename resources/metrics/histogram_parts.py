"""Native histograms as Parquet: one row per series and time, buckets as spans and deltas."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.errors import InvalidInputError
from fleet.metrics.native_histograms import (
    NativeHistogram,
    Spans,
    from_spans,
    to_spans,
    validate_histogram,
)
from resources.metrics.parquet_settings import open_writer

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SIDES = ("positive", "negative")


class HistogramSample(NamedTuple):
    """One histogram of a series."""

    series_id: int
    ts_ms: int
    histogram: NativeHistogram


def encode_histograms(samples: Sequence[HistogramSample]) -> bytes:
    """The bytes of a part; equal histograms give equal bytes.

    Args:
        samples: in any order; one per series and time.

    Raises:
        InvalidInputError: a histogram breaks a rule, or a series has two at one time.
    """
    import pyarrow as pa

    ordered = sorted(samples, key=lambda one: one[:2])
    if len({one[:2] for one in ordered}) != len(ordered):
        raise InvalidInputError("histograms", len(ordered), "one for each series and time")
    columns: dict[str, list[Any]] = {name: [] for name in _schema().names}
    for series, ts_ms, one in ordered:
        validate_histogram(one)
        plain = (series, ts_ms, one.schema, one.zero_threshold, one.zero_count, one.observations)
        for name, value in zip(_schema().names, (*plain, one.total), strict=False):
            columns[name].append(value)
        for side in SIDES:
            for name, values in to_spans(getattr(one, side))._asdict().items():
                columns[f"{side}_{name}"].append(list(values))
    sink = io.BytesIO()
    with open_writer(
        sink,
        _schema(),
        dictionary=("series_id", "schema", "zero_threshold"),
        deltas=("ts", "zero_count", "observations"),
        statistics=("series_id", "ts"),
    ) as writer:
        writer.write_table(pa.table(columns, schema=_schema()))
    return sink.getvalue()


def read_histograms(file: pq.ParquetFile) -> list[HistogramSample]:
    """All histograms of a part, by series and time."""
    found = []
    for row in file.read().to_pylist():
        fields: dict[str, Any] = {name: row[name] for name in NativeHistogram._fields[:5]}
        fields |= {
            side: from_spans(Spans(*(tuple(row[f"{side}_{name}"]) for name in Spans._fields)))
            for side in SIDES
        }
        one = NativeHistogram(**fields)
        found.append(HistogramSample(row["series_id"], row["ts"], one))
    return found


def _schema() -> pa.Schema:
    import pyarrow as pa

    plain = {
        "series_id": pa.int64(),
        "ts": pa.int64(),
        "schema": pa.int8(),
        "zero_threshold": pa.float64(),
        "zero_count": pa.int64(),
        "observations": pa.int64(),
        "total": pa.float64(),
    }
    items: dict[str, Any] = {"offsets": pa.int32(), "lengths": pa.int32(), "deltas": pa.int64()}
    lists = {f"{side}_{name}": pa.list_(kind) for side in SIDES for name, kind in items.items()}
    columns = plain | lists
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])
