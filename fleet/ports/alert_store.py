"""Where states of alerts, what was told of them, and silences survive a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

STATES, GROUPS, SILENCES = "states", "groups", "silences"
"""The documents."""


class AlertStore(Protocol):
    """A few documents by name, each replaced as a whole."""

    def read(self, name: str) -> str | None:
        """A document; None when it was never written.

        Raises:
            CorruptObjectError: its bytes are damaged.
            StoreUnavailableError: it cannot be read.
        """
        ...

    def write(self, name: str, text: str) -> None:
        """Replace a document; the old or the new one is there after any crash.

        Raises:
            StoreUnavailableError: it was not written.
        """
        ...

    def update(self, name: str, change: Callable[[str | None], str]) -> str:
        """Replace a document by what `change` makes of it; no two updates see the same one.

        Returns:
            The new document.

        Raises:
            StoreUnavailableError: it was not written. Whatever `change` raises passes through.
        """
        ...

    def set_aside(self, name: str) -> str:
        """Move a document that cannot be read out of the way; returns where it lies now."""
        ...
