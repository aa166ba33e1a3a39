"""How rows become the bytes of an object and come back.

Every object carries `partition` and `tick` as its last columns, so merged days lose nothing and a
file taken out of the lake still says what it is. Tick by tick these columns cost a few bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleet.errors import InvalidInputError
from fleet.lake import RESERVED_COLUMNS, validate_columns

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_ROWS = 128 * 1024
"""Rows of a row group: 100,000 agents fit into one, which `benchmarks/lake.py` found quickest."""

COMPRESSION_LEVEL = 1
"""Of zstd; `benchmarks/lake.py` prints what higher levels cost and save."""

_SOURCES = b"stateroom.sources"
_FORMAT = b"stateroom.lake_format"


def check_rows(rows: Any) -> pa.Table:
    """Accept an Arrow table whose columns may stand in the lake.

    Raises:
        InvalidInputError: it is no `pyarrow.Table`, or a column name breaks a rule.
    """
    import pyarrow as pa

    if not isinstance(rows, pa.Table):
        raise InvalidInputError("rows", type(rows).__name__, "a pyarrow.Table")
    validate_columns(rows.column_names)
    return rows


def stamp_rows(rows: pa.Table, partition: str, at: datetime) -> pa.Table:
    """Rows with `partition` and `tick` appended, in one chunk with one dictionary a column.

    One chunk makes equal rows into equal bytes, however they were put together: a retried write
    is recognised by its checksum.
    """
    import pyarrow as pa

    count = rows.num_rows
    stamped = rows.append_column(
        pa.field("partition", pa.string()), pa.repeat(pa.scalar(partition, pa.string()), count)
    ).append_column(
        pa.field("tick", pa.timestamp("us", "UTC")),
        pa.repeat(pa.scalar(at, pa.timestamp("us", "UTC")), count),
    )
    return stamped.unify_dictionaries().combine_chunks()


def strip_stamp(stamped: pa.Table) -> pa.Table:
    """Rows as they were written, without `partition` and `tick`."""
    return stamped.drop_columns(list(RESERVED_COLUMNS))


@contextmanager
def open_writer(sink: Any, schema: pa.Schema, sources: Iterable[str] = ()) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetWriter` with the lake's settings.

    Left by an error it writes no footer, neither then nor when it is collected: by then the sink's
    descriptor may be another object's.

    Args:
        sink: writable file object; it is not closed.
        schema: with the two stamp columns.
        sources: file names that the object supersedes.
    """
    import pyarrow.parquet as pq

    metadata = {**(schema.metadata or {}), _FORMAT: b"1"}
    names = sorted(sources)
    if names:
        metadata[_SOURCES] = json.dumps(names).encode()
    writer = pq.ParquetWriter(
        sink,
        schema.with_metadata(metadata),
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
    )
    try:
        yield writer
        writer.close()
    finally:
        writer.is_open = False


def read_rows(path: str, tick: datetime | None = None) -> pa.Table:
    """All rows of an object, stamped; of one tick when given."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if tick is None:
        with pq.ParquetFile(path) as file:  # a third quicker than read_table, which makes a dataset
            table = file.read()
    else:
        only = pc.field("tick") == pa.scalar(tick, pa.timestamp("us", "UTC"))
        table = pq.read_table(path, filters=only, partitioning=None)
    return table.replace_schema_metadata(_without_own(table.schema.metadata))


def row_groups(paths: Iterable[str], schema: pa.Schema) -> Iterator[pa.Table]:
    """Rows of several objects one after the other, in tables of about one row group.

    Memory: one object and one row group, however many objects there are.
    """
    import pyarrow as pa

    waiting: list[pa.Table] = []
    rows = 0
    for path in paths:
        waiting.append(conform(read_rows(path), schema))
        rows += waiting[-1].num_rows
        if rows >= ROW_GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def read_schema(path: str) -> pa.Schema:
    """Schema of an object, stamped, without the lake's own metadata."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    kept = _without_own(schema.metadata)
    return schema.remove_metadata() if kept is None else schema.with_metadata(kept)


def read_sources(path: str) -> frozenset[str]:
    """File names that a `day` object supersedes; empty for a `tick` object."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path).metadata or {}
    return frozenset(json.loads(metadata.get(_SOURCES, b"[]")))


def unify(schemas: list[pa.Schema], table: str) -> pa.Schema:
    """One schema for objects written by different versions: columns by name, types widened.

    Raises:
        InvalidInputError: a column changed to a type that has none in common with the old one.
    """
    import pyarrow as pa

    try:
        merged = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidInputError(
            "columns",
            table,
            f"columns whose type stays comparable over time ({error})",
            hint="Give the changed column a new name.",
        ) from error
    own = [name for name in RESERVED_COLUMNS if name in merged.names]
    order = [*(name for name in merged.names if name not in RESERVED_COLUMNS), *own]
    everywhere = set(order).intersection(*(schema.names for schema in schemas))
    fields = [merged.field(name) for name in order]
    return pa.schema(
        each if each.name in everywhere else each.with_nullable(nullable=True) for each in fields
    )


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns of `schema`, in its order; missing ones are null."""
    import pyarrow as pa

    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _without_own(metadata: dict[bytes, bytes] | None) -> dict[bytes, bytes] | None:
    """Key-value metadata as the caller of `write` had them."""
    kept = {k: v for k, v in (metadata or {}).items() if not k.startswith(b"stateroom.")}
    return kept or None
