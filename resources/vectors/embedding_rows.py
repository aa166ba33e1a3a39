"""Rows of embeddings as Arrow tables: checked when they come in, newest first when read."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from fleet.errors import CorruptObjectError, InvalidInputError
from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import Rows
from fleet.vectors.external_ids import demand_distinct, external_ids
from fleet.vectors.records import EMBEDDING_COLUMNS, EmbeddingModel, Metric
from resources.vectors.arrow_buffers import fractions
from resources.vectors.unit_vectors import check_vectors, normalize

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSION_LEVEL = 1
"""Of zstd; vectors hardly shrink, texts do."""


def embedding_schema(dimensions: int) -> pa.Schema:
    """Arrow's schema of a batch."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "int64": pa.int64(),
        "bool": pa.bool_(),
        "timestamp[us, tz=UTC]": pa.timestamp("us", "UTC"),
        "fixed_size_list<float>": pa.list_(pa.float32(), dimensions),
    }
    return pa.schema([pa.field(name, types[kind]) for name, kind in EMBEDDING_COLUMNS.items()])


def make_rows(notes: Iterable[tuple[Any, str | None]], vectors: Vectors) -> pa.Table:
    """Rows of notes with their vectors.

    Args:
        notes: (`fleet.agents.Note`, its region) in the order of the vectors.
        vectors: (notes, dimensions).
    """
    import pyarrow as pa

    listed = list(notes)
    note_ids = [note.note_id for note, _ in listed]
    columns = {
        "note_id": note_ids,
        "external_id": external_ids(note_ids),
        "agent_id": [note.agent_id for note, _ in listed],
        "region": [region for _, region in listed],
        "created_at": [note.at for note, _ in listed],
        "text": [note.text for note, _ in listed],
        "deleted": [False] * len(listed),
        "vector": vector_column(vectors),
    }
    return pa.table(columns, schema=embedding_schema(vectors.shape[1]))


def vector_column(vectors: Vectors) -> Any:
    """A matrix as an Arrow column, without a copy."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def vectors_of(rows: pa.Table) -> Vectors:
    """The column `vector` as a matrix."""
    column: Any = rows.column("vector").combine_chunks()
    if not len(column):
        return np.zeros((0, column.type.list_size), np.float32)
    return fractions(column.flatten()).reshape(len(column), -1)


def ids_of(rows: pa.Table) -> Rows:
    """The column `external_id`."""
    return cast("Rows", rows.column("external_id").to_numpy())


def deleted_of(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """The column `deleted`."""
    return cast("npt.NDArray[np.bool_]", rows.column("deleted").to_numpy())


def check_batch(rows: Any, model: EmbeddingModel) -> pa.Table:
    """Accept rows that may be stored: vectors of the model, at length one for cosine.

    Raises:
        InvalidInputError: another schema, a null, a note twice, a number that is not its note's,
            two notes with one number, NaN or infinity in a vector.
    """
    import pyarrow as pa

    schema = embedding_schema(model.dimensions)
    if not isinstance(rows, pa.Table) or rows.schema.names != schema.names:
        given = rows.schema.names if isinstance(rows, pa.Table) else type(rows).__name__
        raise InvalidInputError("rows", given, f"a pyarrow.Table with columns {schema.names}")
    for field in schema:
        found = rows.schema.field(field.name).type
        if found != field.type:
            raise InvalidInputError(f"rows.{field.name}", str(found), str(field.type))
        if field.name != "region" and rows.column(field.name).null_count:
            raise InvalidInputError(f"rows.{field.name}", None, "no null")
    if not rows.num_rows:
        raise InvalidInputError("rows", 0, "at least one row")
    _check_ids(rows)
    gone = deleted_of(rows)
    vectors = np.where(gone[:, None], np.float32(0.0), vectors_of(rows))
    vectors = check_vectors("rows.vector", vectors, model.dimensions)
    if model.metric is Metric.COSINE:
        vectors = normalize(vectors)
    place = rows.schema.names.index("vector")
    return rows.set_column(place, schema.field("vector"), vector_column(vectors)).cast(schema)


def _check_ids(rows: pa.Table) -> None:
    note_ids = cast("list[str]", rows.column("note_id").to_pylist())
    if len(set(note_ids)) != len(note_ids):
        twice = Counter(note_ids).most_common(1)[0][0]
        raise InvalidInputError("rows.note_id", twice, "each note once in a batch")
    ids = ids_of(rows)
    wrong = np.flatnonzero(ids != external_ids(note_ids))
    if len(wrong):
        note = note_ids[int(wrong[0])]
        raise InvalidInputError("rows.external_id", int(ids[wrong[0]]), f"the number of {note!r}")
    demand_distinct(note_ids, ids)


def batch_bytes(rows: pa.Table) -> bytes:
    """Rows as Parquet, whose pages carry checksums; equal rows give equal bytes."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(
        rows.combine_chunks(),
        sink,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=["agent_id", "region"],  # type: ignore[arg-type]  # the stubs know bool only
        write_page_checksum=True,
    )
    return sink.getvalue()


def read_batch(data: bytes, model: EmbeddingModel, name: str) -> pa.Table:
    """The inverse of `batch_bytes`.

    Raises:
        CorruptObjectError: it is no batch of this model.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(pa.BufferReader(data))
        return rows.cast(embedding_schema(model.dimensions))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptObjectError(
            f"{name}: no embeddings of {model.model_id} ({error})",
            hint="Restore it from a backup, or embed the network's notes again.",
        ) from error
