"""Nobody watches: the progress of work in runs that Dagster shows."""

from __future__ import annotations


class SilentProgress:
    """The `Progress` port, said to nobody."""

    def advance(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """See `fleet.ports.progress.Progress.advance`."""

    def finish(self, what: str, seconds: float) -> None:
        """See `fleet.ports.progress.Progress.finish`."""
