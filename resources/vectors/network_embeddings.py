"""All embeddings of a network, each note once, read from its batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from fleet.ports.embedder import Vectors
from fleet.ports.vector_store import VectorStore
from fleet.vectors.external_ids import demand_distinct
from fleet.vectors.records import EmbeddingBatch, EmbeddingModel
from fleet.vectors.refresh import newest_changes
from resources.vectors.embedding_rows import deleted_of, embedding_schema, ids_of, vectors_of

if TYPE_CHECKING:
    import pyarrow as pa


class Embeddings(NamedTuple):
    """Live embeddings of a network, each note once."""

    table: pa.Table
    vectors: Vectors
    """Of the rows of `table`, in their order."""
    batches: list[EmbeddingBatch]
    """All that were read."""


def read_newest(
    store: VectorStore, batches: list[EmbeddingBatch], model: EmbeddingModel
) -> pa.Table:
    """Rows of batches, one after the other; of each note the last one only, deletions included.

    Args:
        store: of embeddings.
        batches: in order.
        model: whose.

    Raises:
        InvalidInputError: two notes have one number; nothing may be built of them.
        CorruptObjectError: a batch is damaged.
    """
    return newest_rows([store.read(batch, model) for batch in batches], model)


def newest_rows(tables: Sequence[pa.Table], model: EmbeddingModel) -> pa.Table:
    """Rows of batches, given in order; of each note the last one only, deletions included.

    Raises:
        InvalidInputError: two notes have one number; nothing may be built of them.
    """
    import pyarrow as pa

    table = pa.concat_tables([embedding_schema(model.dimensions).empty_table(), *tables])
    last = newest_changes(ids_of(table))
    if len(last) == table.num_rows:
        return table
    demand_distinct(cast("list[str]", table.column("note_id").to_pylist()), ids_of(table))
    return table.take(last)


def read_embeddings(
    store: VectorStore, batches: list[EmbeddingBatch], model: EmbeddingModel
) -> Embeddings:
    """What lives of all batches; arguments and errors as of `read_newest`."""
    import pyarrow as pa

    table = read_newest(store, batches, model)
    gone = deleted_of(table)
    if gone.any():
        table = table.filter(pa.array(~gone))
    return Embeddings(table, vectors_of(table), batches)
