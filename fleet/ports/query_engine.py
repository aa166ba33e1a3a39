"""What evaluates PromQL, and what takes the samples that rules make of the answers."""

from __future__ import annotations

from typing import Protocol

from fleet.metrics.vectors import InstantVector


class QueryEngine(Protocol):
    """Answers instant queries in PromQL."""

    def instant(self, expr: str, at_ms: int) -> InstantVector:
        """The value of an expression at a moment.

        Args:
            expr: PromQL; its result is a vector or a scalar (a vector of one element, no labels).
            at_ms: milliseconds since 1970 UTC.

        Raises:
            InvalidInputError: the expression does not parse, or cannot be evaluated.
            TooLargeError: over a limit on series or samples.
            TransientError: the samples cannot be read now.
        """
        ...


class SampleSink(Protocol):
    """Takes the samples of recording rules and of alerts' states."""

    def write(self, samples: InstantVector) -> None:
        """Keep samples, visible to the next query at the same moment; stale markers by their bits.

        Raises:
            StateroomError: they cannot be kept; nothing of these was.
        """
        ...
