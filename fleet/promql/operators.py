"""Arithmetic and comparisons of numbers, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray


ARITHMETIC: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
    "atan2": np.arctan2,
}
COMPARISONS: dict[str, Callable[[FloatArray, FloatArray], BoolArray]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}
SETS = frozenset({"and", "or", "unless"})


def combined(
    op: str, left: FloatArray, right: FloatArray, *, as_bool: bool
) -> tuple[FloatArray, BoolArray | None]:
    """An operator over arrays that broadcast.

    Args:
        op: arithmetic or comparison.
        left: of it.
        right: of it.
        as_bool: whether a comparison answers 1 or 0 instead of choosing.

    Returns:
        The values (of a comparison that chooses, those on the left), and which are chosen; None
        for all.
    """
    if op in ARITHMETIC:
        return ARITHMETIC[op](left, right), None
    holds = COMPARISONS[op](left, right)
    if as_bool:
        return holds.astype(np.float64), None
    return np.broadcast_to(left, holds.shape), holds
