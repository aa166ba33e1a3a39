"""The leading controller's view as one attribute; a part of `InMemoryControlStore`."""

from __future__ import annotations

from fleet.controller_view import ControllerView, KeptView
from fleet.errors import LeaseLostError
from fleet.ports.clock import Clock


class InMemoryControllerView:
    """`fleet.ports.controller_view_store.ControllerViewStore` for tests."""

    clock: Clock
    _kept: KeptView | None = None

    def keep_controller_view(self, view: ControllerView) -> None:
        """Replace the view of the same or a lower term."""
        if self._kept is not None and view.term < self._kept.view.term:
            raise LeaseLostError(f"term {view.term} is lower than {self._kept.view.term}")
        self._kept = KeptView(view, self.clock.now())

    def controller_view(self) -> KeptView | None:
        """As kept."""
        return self._kept
