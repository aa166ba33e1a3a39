"""What functions of windows know beside the windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleet.promql.semantics import Semantics

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray, Int64Array


class WindowContext(NamedTuple):
    """Arrays of one value per window."""

    start_ms: Int64Array
    end_ms: Int64Array
    at_ms: Int64Array
    parameter: FloatArray
    """The scalar argument of the function; 0 where it has none."""
    semantics: Semantics
