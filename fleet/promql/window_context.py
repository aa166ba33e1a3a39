"""What functions of windows know beside the windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from fleet.metrics.answers import Windows
from fleet.promql.semantics import Semantics

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array


class WindowContext(NamedTuple):
    """Arrays of one value per window."""

    start_ms: Int64Array
    end_ms: Int64Array
    at_ms: Int64Array
    parameter: FloatArray
    """The scalar argument of the function; 0 where it has none."""
    semantics: Semantics


WindowFunction = Callable[[Windows, WindowContext], "tuple[FloatArray, BoolArray | None]"]
"""Value of each window, and which have one (None for all)."""
