"""A vector store in a folder, as the settings declare one, with notes that a person could write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from fleet.agents import Note, NoteVector
from fleet.vectors.declaration import NetworkVectors, VectorDeclaration
from fleet.vectors.records import EmbeddingModel, IndexPointer, VectorPolicy
from resources.clock import SystemClock
from resources.vectors.embedding_rows import make_rows
from resources.vectors.given_vectors import vectors_of_notes
from resources.vectors.network_indexes import NetworkIndexes

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
GIVEN = EmbeddingModel("three", "given", 3)
NOTES = (
    "Disk sda was busy 93 percent of the time and slow to answer.",
    "Memory is nearly full: 97 percent used, the machine swaps.",
    "The network link was quiet all night.",
    "The processor idled; load average is 0.2.",
)


def declaration_at(
    root: Path, networks: Sequence[str] = ("watch", "trade"), given: Sequence[str] = ()
) -> VectorDeclaration:
    """A store below a folder; networks in `given` take vectors from their agents."""
    return VectorDeclaration(
        path=str(root / "vectors"),
        copies_path=str(root / "copies"),
        networks=tuple(
            NetworkVectors(
                network_id=name,
                policy=VectorPolicy(sample_queries=10),
                embedder="given" if name in given else "static",
                given=GIVEN if name in given else None,
                gpu="off",
            )
            for name in (*networks, *given)
        ),
    )


class TextWorld:
    """Writes notes and builds indexes in a declared store."""

    def __init__(self, declaration: VectorDeclaration) -> None:
        """Nothing is stored yet."""
        self.declaration = declaration
        self.indexes = NetworkIndexes(declaration, SystemClock(), threads=1)
        self._written = 0

    def remember(
        self,
        network_id: str,
        texts: Iterable[str] = NOTES,
        vectors: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Embed notes in one batch; agents and regions alternate."""
        notes = []
        for place, text in enumerate(texts):
            self._written += 1
            given = None
            if vectors is not None:
                given = NoteVector(GIVEN.name, np.asarray(vectors[place], "<f4").tobytes())
            agent_id = f"{network_id}-{self._written % 2}"
            at = AT + timedelta(minutes=self._written)
            notes.append(Note(f"n{self._written:03}", agent_id, network_id, at, text, given))
        embedder = self.indexes.embedder(network_id)
        found = (
            embedder.embed([note.text for note in notes])
            if vectors is None
            else vectors_of_notes(notes, GIVEN).vectors
        )
        regions = ["us-west-2" if note.agent_id.endswith("1") else None for note in notes]
        rows = make_rows(zip(notes, regions, strict=True), found)
        store, model = self.indexes.store, embedder.model
        expected = store.last_sequence(network_id, model)
        store.append(network_id, model, rows, AT, expected=expected)

    def build(self, network_id: str) -> IndexPointer:
        """Bring a network's index up to date; its pointer."""
        model = self.indexes.embedder(network_id).model
        self.indexes.builder(network_id).refresh(network_id, model, 0)
        pointer = self.indexes.store.current(network_id)
        assert pointer is not None
        return pointer

    def damage(self, pointer: IndexPointer) -> Path:
        """Flip a byte in the middle of the first part that a generation has stored; its path."""
        folder = Path(self.declaration.path) / "indexes" / pointer.network_id / "generations"
        path = min((folder / pointer.generation).glob("*.0000"))
        body = bytearray(path.read_bytes())
        body[len(body) // 2] ^= 1
        path.write_bytes(body)
        return path
