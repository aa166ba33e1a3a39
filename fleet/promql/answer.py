"""What a query answers: a matrix, which level answered each selector, and whether it is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from fleet.metrics.labels import Labels
from fleet.metrics.levels import Level

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array


class AnswerKind(StrEnum):
    """What the expression is, as the HTTP API of Prometheus names it."""

    SCALAR = "scalar"
    VECTOR = "vector"
    STRING = "string"


class SelectorUse(NamedTuple):
    """Which level answered a selector over a part of the query."""

    selector: str
    """As PromQL writes it."""
    level: Level | None
    """None for raw samples."""
    start_ms: int
    """Of the first window, excluded."""
    end_ms: int
    """Of the last."""
    series: int
    reason: str = ""
    """Why the answer is not exact; '' where it is."""

    @property
    def level_text(self) -> str:
        """`raw`, `1m`, `5m`, `1h` or `1d`."""
        return "raw" if self.level is None else self.level.text


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The value of an expression at each step.

    Attributes:
        query: the expression.
        kind: what it is; a scalar is one row without labels, a string has no rows.
        times_ms: int64, the steps; one for an instant query.
        labels: of each row, ordered by name.
        values: float64, (rows, steps); anything where nothing is present.
        present: bool, (rows, steps).
        uses: which level answered which selector, in the order they were read.
        text: the value of a string; else ''.
    """

    query: str
    kind: AnswerKind
    times_ms: Int64Array
    labels: Sequence[Labels]
    values: FloatArray
    present: BoolArray
    uses: tuple[SelectorUse, ...] = ()
    text: str = ""

    @property
    def exact(self) -> bool:
        """Whether the answer is the one that raw samples of all time would give."""
        return not any(use.reason for use in self.uses)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each selector that is not answered exactly."""
        found = (f"{use.selector}: {use.reason}" for use in self.uses if use.reason)
        return tuple(dict.fromkeys(found))
