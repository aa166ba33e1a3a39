"""Vectors that agents computed themselves: the model's name is all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fleet.agents import Note, NoteVector
from fleet.errors import InvalidInputError
from fleet.ports.embedder import Vectors
from fleet.vectors.records import EmbeddingModel, Metric, validate_model
from resources.vectors.unit_vectors import check_vectors, normalize


class GivenVectors:
    """The `Embedder` port over vectors handed in with their texts.

    Args:
        model: what the agents say they computed with.
        vectors: text -> its vector.

    Raises:
        InvalidInputError: a vector of another width, or with NaN or infinity.
    """

    def __init__(self, model: EmbeddingModel, vectors: Mapping[str, Any]) -> None:
        """Check all vectors at once, so that nothing wrong is found half-way."""
        self.model = validate_model(model)
        self._places = {text: place for place, text in enumerate(vectors)}
        rows = np.zeros((0, model.dimensions), np.float32)
        if vectors:
            rows = check_vectors("vectors", list(vectors.values()), model.dimensions)
        self._rows = normalize(rows) if model.metric is Metric.COSINE else rows

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `fleet.ports.Embedder.embed`.

        Raises:
            InvalidInputError: nobody has handed in a vector for a text that is not blank.
        """
        found = np.zeros((len(texts), self.model.dimensions), np.float32)
        for place, text in enumerate(texts):
            known = self._places.get(text)
            if known is not None:
                found[place] = self._rows[known]
            elif text.strip():
                raise InvalidInputError(
                    "text",
                    text[:80],
                    f"a text with a vector of model {self.model.name}",
                    hint="Hand the vector in with the text, or search by words alone.",
                )
        return found


class GivenNotes(NamedTuple):
    """Vectors of notes, as their agents handed them in."""

    vectors: Vectors
    """(notes, dimensions), in the order of the notes; zero where there is none to be had."""
    without: int
    """Notes that came without a vector: words find them, vectors do not."""
    foreign: int
    """Notes whose vector is another model's; the same holds for them."""


def vectors_of_notes(notes: Sequence[Note], model: EmbeddingModel) -> GivenNotes:
    """The vectors that notes carry, as far as they are the model's.

    Args:
        notes: in order.
        model: declared for their network.
    """
    vectors = np.zeros((len(notes), model.dimensions), np.float32)
    without = foreign = 0
    for place, note in enumerate(notes):
        if note.vector is None:
            without += 1
        elif not is_of(note.vector, model):
            foreign += 1
        else:
            vectors[place] = np.frombuffer(note.vector.values, "<f4")
    return GivenNotes(vectors, without, foreign)


def is_of(vector: NoteVector, model: EmbeddingModel) -> bool:
    """Whether a vector can be compared with those of a model."""
    return vector.model == model.name and vector.dimensions == model.dimensions
