"""What is asked of a Prometheus server piece by piece, and where reading goes on behind each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fleet.errors import InvalidInputError, TooLargeError

PIECE_SPAN_MIN_MS = 1000
"""A piece is not divided further in time."""


class Place(NamedTuple):
    """Where reading goes on: windows of time in order, and in each the metrics by name."""

    from_ms: int
    """Start of the window, excluded."""
    to_ms: int
    """Its end; 0 when it is not begun."""
    after: str = ""
    """Metrics up to this one are read, this one only ..."""
    within_ms: int = 0
    """... up to this time; 0: whole."""

    @staticmethod
    def parse(text: str) -> Place:
        """The place of a `resume`.

        Raises:
            InvalidInputError: it is none.
        """
        try:
            from_ms, to_ms, after, within_ms = json.loads(text)
        except (ValueError, TypeError) as error:
            raise InvalidInputError("resume", text[:80], "that of a piece, unchanged") from error
        if not (
            all(isinstance(one, int) for one in (from_ms, to_ms, within_ms))
            and isinstance(after, str)
        ):
            raise InvalidInputError("resume", text[:80], "that of a piece, unchanged")
        return Place(from_ms, to_ms, after, within_ms)

    def text(self) -> str:
        """As `resume` of a piece."""
        return json.dumps(self, separators=(",", ":"))


class Question(NamedTuple):
    """What a piece asks for."""

    names: Sequence[str]
    start_ms: int
    end_ms: int
    window: Place
    """The window that it is part of."""

    def behind(self) -> Place:
        """Where reading goes on behind it."""
        if self.end_ms < self.window.to_ms:
            return self.window._replace(after=self.names[0], within_ms=self.end_ms)
        return self.window._replace(after=self.names[-1], within_ms=0)

    def halves(self) -> tuple[Question, Question]:
        """Its two parts: of its metrics, or of its time.

        Raises:
            TooLargeError: it cannot be divided.
        """
        if len(self.names) > 1:
            half = len(self.names) // 2
            first = self._replace(names=self.names[:half])
            return first, self._replace(names=self.names[half:])
        middle = (self.start_ms + self.end_ms) // 2
        if self.end_ms - self.start_ms <= PIECE_SPAN_MIN_MS:
            raise TooLargeError(
                f"{self.names[0]} has too many samples in {self.end_ms - self.start_ms} ms",
                hint="Choose fewer series by a matcher, for example on job or instance.",
            )
        return self._replace(end_ms=middle), self._replace(start_ms=middle)


def parts_of_metric(name: str, start_ms: int, window: Place, parts: int) -> Iterator[Question]:
    """One metric from a time on, in parts of the window."""
    span_ms = max(PIECE_SPAN_MIN_MS, -(-(window.to_ms - window.from_ms) // parts))
    while start_ms < window.to_ms:
        end_ms = min(start_ms + span_ms, window.to_ms)
        yield Question([name], start_ms, end_ms, window)
        start_ms = end_ms
