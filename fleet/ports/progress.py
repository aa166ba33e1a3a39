"""How long work says how far it has come."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Whoever watches: a bar on a terminal, or nobody."""

    def advance(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """Take note of how far a piece of work has come.

        Args:
            what: name of the work; each name has a bar of its own.
            done_bytes: bytes that are done so far, not since the last call.
            total_bytes: estimate of all bytes; may be passed, and may change.
        """
        ...

    def finish(self, what: str, seconds: float) -> None:
        """Take note that a step is over.

        Args:
            what: name of the step.
            seconds: how long it took.
        """
        ...
