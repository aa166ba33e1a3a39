"""Who finds what belongs to nothing any more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from fleet.cleanup import Orphan


class OrphanReader(Protocol):
    """Finds one kind of thing that is left behind; never removes any."""

    def orphans(self) -> Iterable[Orphan]:
        """Everything there is of the kind, whatever its age.

        Raises:
            TransientError: the place cannot be read now.
        """
        ...
