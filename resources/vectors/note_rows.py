"""Changes of notes as rows of embeddings, and the notes that an index holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from fleet.vectors.external_ids import external_ids
from resources.vectors.embedding_rows import embedding_schema, vector_column
from resources.vectors.given_vectors import GivenVectors, vectors_of_notes

if TYPE_CHECKING:
    import pyarrow as pa

    from fleet.ports.embedder import Embedder, Vectors
    from fleet.ports.note_store import NoteChange
    from fleet.ports.vector_store import GenerationFiles

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""Time of a note that is gone: of such a row nothing but the id is looked at."""


def vectors_of_changes(changes: Sequence[NoteChange], embedder: Embedder) -> tuple[Vectors, int]:
    """A vector for each change, and how many notes have none that can be compared.

    A note that is gone has a zero vector. Where agents hand vectors in, a note without one, or with
    one of another model, has a zero vector too: nothing but its words finds it.

    Args:
        changes: each note once.
        embedder: of the network.
    """
    import numpy as np

    if not isinstance(embedder, GivenVectors):
        texts = [one.note.text if one.note is not None else "" for one in changes]
        return np.ascontiguousarray(embedder.embed(texts)), 0
    model = embedder.model
    vectors = np.zeros((len(changes), model.dimensions), np.float32)
    notes = [(place, one.note) for place, one in enumerate(changes) if one.note is not None]
    found = vectors_of_notes([note for _, note in notes], model)
    vectors[[place for place, _ in notes]] = found.vectors
    return vectors, found.without + found.foreign


def rows_of_changes(changes: Sequence[NoteChange], vectors: Vectors) -> pa.Table:
    """Rows of a batch of embeddings.

    Args:
        changes: each note once; one that is gone becomes a row that takes it back.
        vectors: (changes, dimensions).
    """
    import pyarrow as pa

    notes = [change.note for change in changes]
    note_ids = [change.note_id for change in changes]
    columns = {
        "note_id": note_ids,
        "external_id": external_ids(note_ids),
        "agent_id": ["" if note is None else note.agent_id for note in notes],
        "region": [change.region for change in changes],
        "created_at": [_NEVER if note is None else note.at for note in notes],
        "text": ["" if note is None else note.text for note in notes],
        "deleted": [note is None for note in notes],
        "vector": vector_column(vectors),
    }
    return pa.table(columns, schema=embedding_schema(vectors.shape[1]))


def live_note_ids(files: GenerationFiles) -> set[str]:
    """Ids of the notes that a verified generation holds."""
    import pyarrow as pa

    from resources.vectors.generation_rows import open_generation_rows

    rows = open_generation_rows(files)
    live = rows.table.column("note_id").filter(pa.array(rows.live))
    return set(cast("list[str]", live.to_pylist()))
