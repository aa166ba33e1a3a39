"""What every matrix of vectors must be before a library sees it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fleet.errors import InvalidInputError
from fleet.ports.embedder import Vectors

_FEW = 100_000
"""Numbers whose mask costs less than the detour."""


def check_vectors(field: str, vectors: Any, dimensions: int) -> Vectors:
    """The matrix as C-contiguous float32, of the right width and finite.

    Args:
        field: what the error should call it.
        vectors: (rows, dimensions), any numbers.
        dimensions: wanted.

    Raises:
        InvalidInputError: another shape, or NaN or infinity; the first row that has one is named.
    """
    try:
        matrix = np.ascontiguousarray(vectors, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(field, type(vectors).__name__, "a matrix of numbers") from error
    if matrix.ndim != 2 or matrix.shape[1] != dimensions:
        raise InvalidInputError(field, matrix.shape, f"(rows, {dimensions})")
    if not _is_finite(matrix):
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise InvalidInputError(f"{field}[{row}]", "NaN or infinity", "finite numbers")
    return matrix


def _is_finite(matrix: Vectors) -> bool:
    """Whether all are; of many, their sum says so first, without a mask as large as they are."""
    if matrix.size <= _FEW:
        return bool(np.isfinite(matrix).all())
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(matrix.sum(dtype=np.float64)))


def normalize(vectors: Vectors) -> Vectors:
    """The vectors at length one, in a new matrix; a zero vector stays zero."""
    wide = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    scaled = vectors / np.where(wide > 0.0, wide, 1.0)  # squares of 1e30 would be infinite
    lengths = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))[:, None]
    return np.asarray(scaled / np.where(lengths > 0.0, lengths, 1.0), np.float32)
