"""Bringing vectors into the range where halves are exact enough, and back."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.ports.embedder import Vectors

_SQUARED_AT_ONCE = 65_536


class Frame(NamedTuple):
    """How vectors are moved and stretched before they become halves."""

    centre: Vectors | None
    """Taken from all of them under L2, which it leaves as it is: what they have in common would
    drown their differences. None for products."""
    scale: float
    """A power of two that brings the greatest number near 1. Products of halves overflow above
    65,504, and numbers below 6e-8 vanish."""

    def seen(self, vectors: Vectors) -> Vectors:
        """Vectors as they go to the device; the same array where nothing is to be done."""
        if self.centre is not None:
            vectors = vectors - self.centre
        return vectors if self.scale == 1.0 else vectors * np.float32(self.scale)


class ScaledQueries(NamedTuple):
    """Questions as they go to the device: of length one, beside what was taken out."""

    unit: Vectors
    lengths: npt.NDArray[np.float64]
    """In the scale of the frame."""


def scale_queries(queries: Vectors, frame: Frame) -> ScaledQueries:
    """Questions in the frame of a database, brought to length one; zero ones stay zero."""
    seen = frame.seen(queries)
    lengths = np.sqrt(np.einsum("ij,ij->i", seen, seen, dtype=np.float64))
    unit = seen / np.where(lengths > 0.0, lengths, 1.0)[:, None]
    return ScaledQueries(np.ascontiguousarray(unit, np.float32), lengths)


def squares_of(vectors: Vectors, frame: Frame) -> Vectors:
    """Squared lengths of the vectors in their frame."""
    squares = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _SQUARED_AT_ONCE):
        block = frame.seen(vectors[start : start + _SQUARED_AT_ONCE])
        np.einsum("ij,ij->i", block, block, out=squares[start : start + len(block)])
    return squares


def frame_of(vectors: Vectors, *, is_l2: bool) -> Frame:
    """The middle of the vectors, for L2, and the scale of what is left of them."""
    centre = None
    if is_l2 and len(vectors):
        centre = np.asarray(vectors.mean(axis=0, dtype=np.float64), np.float32)
    greatest = 0.0
    for start in range(0, len(vectors), _SQUARED_AT_ONCE):
        block = Frame(centre, 1.0).seen(vectors[start : start + _SQUARED_AT_ONCE])
        greatest = max(greatest, float(block.max(initial=0.0)), -float(block.min(initial=0.0)))
    if greatest == 0.0 or 2.0**-6 <= greatest <= 16.0:
        return Frame(centre, 1.0)
    return Frame(centre, 2.0 ** max(-120, min(120, -math.frexp(greatest)[1])))
