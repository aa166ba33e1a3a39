"""Where samples come from: endpoints that are scraped, a Prometheus server, files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from fleet.metrics.samples import SampleBatch


class SourcePiece(NamedTuple):
    """A part of what a source has, small enough to hold."""

    batch: SampleBatch
    batch_id: str
    """Names the piece for good: writing it a second time changes nothing."""
    resume: str
    """What `read` is given to go on behind this piece."""
    problems: tuple[str, ...] = ()
    """What of it could not be read, in sentences that name target and line."""


class MetricSource(Protocol):
    """Samples of a range of time, in pieces that can be taken up again where it broke off."""

    def read(self, start_ms: int, end_ms: int, resume: str = "") -> Iterator[SourcePiece]:
        """Pieces of all samples in (start_ms, end_ms], in an order that does not change.

        Args:
            start_ms: milliseconds since 1970 UTC, excluded.
            end_ms: included. A source of the present (scrapes) answers one piece, taken now.
            resume: that of the last piece taken; '' begins.

        Raises:
            SourceUnavailableError: it does not answer, or broke off; go on with the last `resume`.
            InvalidInputError: the source's data break its format as a whole.
        """
        ...
