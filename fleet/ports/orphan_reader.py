"""Who finds what belongs to nothing any more, and who may take it away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from fleet.cleanup import LeftKind, Orphan


class OrphanReader(Protocol):
    """Finds one kind of thing that is left behind."""

    @property
    def kind(self) -> LeftKind:
        """Of everything that it finds."""
        ...

    def orphans(self) -> Iterable[Orphan]:
        """Everything there is of the kind, whatever its age.

        Raises:
            TransientError: the place cannot be read now.
        """
        ...


class OrphanRemover(OrphanReader, Protocol):
    """A reader that can also remove what it has found, one thing at a time."""

    def remove(self, orphan: Orphan) -> int:
        """Remove it, after a look of its own at this very moment; bytes that were freed.

        Part by part: a call that was cut off leaves the rest, which the next one finds and removes.

        Args:
            orphan: as `orphans` has just answered it.

        Raises:
            PermanentError: it belongs to something again, or was written since; it is left alone.
            TransientError: the place cannot be reached now; part of it may be gone.
        """
        ...
