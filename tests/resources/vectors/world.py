"""A small network of notes with vectors, a store in memory, a builder and a searcher."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from fleet.agents import Note
from fleet.ports.object_store import ObjectStore
from fleet.ports.vector_store import VectorStore
from fleet.vectors.records import EmbeddingModel, VectorPolicy
from resources.vectors.building import IndexBuilder, RefreshOutcome
from resources.vectors.embedding_rows import embedding_schema, make_rows
from resources.vectors.faiss_backend import FaissBackend
from resources.vectors.index_store import ObjectVectorStore
from resources.vectors.reading import NetworkSearcher
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.vectors.test_faiss_backend import D, clustered

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
MODEL = EmbeddingModel("clusters", "1", D)
NETWORK = "host-watch"
VECTORS = clustered(3000)


class OwnVectors:
    """An embedder whose texts are `note-<number>`: the vector of that number."""

    model = MODEL

    def embed(self, texts: Sequence[str]) -> Any:
        """The vectors of the numbers."""
        return VECTORS[[int(text.rpartition("-")[2]) for text in texts]]


def rows_of(numbers: Sequence[int], *, vectors: Any = None, deleted: bool = False) -> Any:
    """Rows of notes `note-<number>`; every third of them is in the west."""
    notes = [
        (
            Note(
                f"note-{one}", f"agent-{one % 7}", NETWORK, AT + timedelta(seconds=one), f"t {one}"
            ),
            "us-west-2" if one % 3 == 0 else None,
        )
        for one in numbers
    ]
    table = make_rows(notes, VECTORS[list(numbers)] if vectors is None else vectors)
    if deleted:
        schema = embedding_schema(D)
        place = schema.names.index("deleted")
        table = table.set_column(place, schema.field("deleted"), [[True] * len(notes)])
    return table


class VectorWorld:
    """Everything that one test of builder and reader needs."""

    def __init__(
        self,
        tmp_path: Path,
        objects: ObjectStore | None = None,
        policy: VectorPolicy | None = None,
        part_bytes: int = 20_000,
    ) -> None:
        """An empty store; parts are small, so that files have several."""
        self.objects = InMemoryObjectStore() if objects is None else objects
        self.copies = tmp_path / "copies"
        self.store = ObjectVectorStore(self.objects, self.copies, part_bytes)
        self.policy = policy or VectorPolicy(sample_queries=100)
        self.backend = FaissBackend(threads=1)
        self.work = tmp_path / "work"
        self.work.mkdir(exist_ok=True)
        self.now = AT

    def builder(self, store: VectorStore | None = None) -> IndexBuilder:
        """A builder over this store or another view of it."""
        return IndexBuilder(
            store or self.store, self.backend, self.policy, lambda: self.now, self.work
        )

    def searcher(self) -> NetworkSearcher:
        """A reader that has opened nothing yet."""
        return NetworkSearcher(self.store, self.backend, OwnVectors(), NETWORK, self.policy)

    def write(self, numbers: Sequence[int], **other: Any) -> None:
        """Append a batch behind the last one."""
        last = self.store.last_sequence(NETWORK, MODEL)
        self.store.append(NETWORK, MODEL, rows_of(numbers, **other), self.now, expected=last)

    def refresh(self, fence: int = 0) -> RefreshOutcome:
        """Bring the index up to date; the clock moves on by a second."""
        self.now += timedelta(seconds=1)
        return self.builder().refresh(NETWORK, MODEL, fence)


def note_ids(answer: Any) -> list[str]:
    """Which notes an answer names."""
    return [hit.note_id for hit in answer.hits]


def true_notes(query: Any, numbers: Sequence[int], k: int, vectors: Any = VECTORS) -> list[str]:
    """The k nearest notes by one matrix product."""
    scores = vectors[list(numbers)] @ query
    return [f"note-{numbers[place]}" for place in np.argsort(-scores, kind="stable")[:k]]
