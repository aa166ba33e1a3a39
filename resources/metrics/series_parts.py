"""The catalogue's files: what is known of each series, in columns ordered by identity."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from fleet.metrics.labels import Labels
from fleet.metrics.samples import SeriesInfo
from resources.metrics.parquet_settings import open_writer

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP_ROWS = 131_072


def labels_check(labels: Labels) -> int:
    """A second hash of the labels, 63 bits: equal identities with unequal checks are two series."""
    return _hash(labels, b"labels")


def info_check(info: SeriesInfo) -> int:
    """A hash of all that is known of a series: unequal means that its row is written again."""
    rest = (info.type.value, info.unit, info.help, str(info.interval_ms), str(info.sketched))
    return _hash((*info.labels, *((str(at), one) for at, one in enumerate(rest))), b"info")


def encode_series(series: Mapping[int, SeriesInfo]) -> bytes:
    """The bytes of a part; equal series give equal bytes."""
    return encode_rows(series_table(series))


def series_table(series: Mapping[int, SeriesInfo]) -> pa.Table:
    """Series as rows ordered by identity."""
    import pyarrow as pa

    ids = sorted(series)
    infos = [series[one] for one in ids]
    text = pa.string()
    columns = {
        "series_id": pa.array(ids, pa.int64()),
        "labels_check": pa.array([labels_check(one.labels) for one in infos], pa.int64()),
        "info_check": pa.array([info_check(one) for one in infos], pa.int64()),
        "names": pa.array([[k for k, _ in one.labels] for one in infos], pa.list_(text)),
        "values": pa.array([[v for _, v in one.labels] for one in infos], pa.list_(text)),
        "type": pa.array([one.type.value for one in infos], text),
        "unit": pa.array([one.unit for one in infos], text),
        "help": pa.array([one.help for one in infos], text),
        "interval_ms": pa.array([one.interval_ms for one in infos], pa.int64()),
        "sketched": pa.array([one.sketched for one in infos], pa.bool_()),
    }
    return pa.table(columns)


def encode_rows(table: pa.Table) -> bytes:
    """The bytes of rows that are ordered by identity."""
    sink = io.BytesIO()
    with open_writer(
        sink,
        table.schema,
        dictionary=("names.list.element", "values.list.element", "type", "unit", "help"),
        deltas=("series_id",),
        statistics=("series_id",),
    ) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


def read_rows(file: pq.ParquetFile, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of a part with plain strings, all columns or some."""
    return file.read(columns=None if columns is None else list(columns))


def merge_tables(tables: Sequence[Any]) -> pa.Table:
    """Rows of several parts as one, ordered by identity; of one series the last part's row.

    Args:
        tables: in the order of commits.
    """
    import numpy as np
    import pyarrow as pa

    joined = pa.concat_tables(tables).combine_chunks()
    ids = joined.column("series_id").to_numpy()
    if bool(np.all(ids[1:] > ids[:-1])):
        return joined
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True)[: len(ids)]
    return joined.take(pa.array(order[is_last])).combine_chunks()


def _hash(pairs: Sequence[tuple[str, str]], person: bytes) -> int:
    text = b"\xff".join(part.encode() for pair in pairs for part in pair)
    digest = blake2b(text, digest_size=8, person=person).digest()
    return int.from_bytes(digest, "big") >> 1
