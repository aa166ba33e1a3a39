"""Where the leading controller tells what it sees, for reports; it never reads it back."""

from __future__ import annotations

from typing import Protocol

from fleet.controller_view import ControllerView, KeptView


class ControllerViewStore(Protocol):
    """One view: the newest of the highest term."""

    def keep_controller_view(self, view: ControllerView) -> None:
        """Replace the view, unless one of a higher term is there; durable when this returns.

        Raises:
            LeaseLostError: a controller with a higher term has told its view; nothing was stored.
        """
        ...

    def controller_view(self) -> KeptView | None:
        """The view; None before the first.

        Raises:
            InvalidInputError: it was written by another version of this program.
        """
        ...
