"""Turning texts into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fleet.vectors.records import EmbeddingModel

Vectors = npt.NDArray[np.float32]
"""(rows, dimensions), C-contiguous."""


class Embedder(Protocol):
    """Turns texts into vectors, always the same for the same text and model."""

    @property
    def model(self) -> EmbeddingModel:
        """What it computes with; reading it may load the model."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One vector per text, in their order; of length one where the metric is cosine.

        A text without content (empty, blanks only) has the zero vector, which is like nothing.

        Raises:
            InvalidInputError: something is no text.
            PermanentError: the model's files are missing or damaged.
        """
        ...
