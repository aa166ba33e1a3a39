"""Keeps the controller's view in the store: at once when it changes, else every few seconds."""

from fleet.controller_view import take_view
from fleet.errors import StateroomError
from fleet.failover.records import Decision, Evidence
from fleet.ports.controller_view_store import ControllerViewStore

KEEP_EVERY_S = 5.0
"""Between two views that say the same: how old the newest one is while a controller lives."""


class ViewKeeper:
    """Writes views; one thread uses it.

    Args:
        store: takes them.
    """

    def __init__(self, store: ControllerViewStore) -> None:
        """Nothing has been told yet."""
        self._store = store
        self._told: tuple[object, ...] = ()
        self._told_s = float("-inf")

    def keep(self, evidence: Evidence, decision: Decision, now_s: float) -> list[str]:
        """Tell the view of this tick when it is due; returns what went wrong, in words.

        Only who leads tells: a standby would hide what the leader sees. A store that cannot be
        written is no reason to stop deciding; the view grows old, and a check says so.
        """
        if not evidence.leader.held or not evidence.store_reachable:
            return []
        view = take_view(evidence, decision)
        if view.standing == self._told and now_s - self._told_s < KEEP_EVERY_S:
            return []
        try:
            self._store.keep_controller_view(view)
        except StateroomError as error:
            return [f"controller view: {error}"]
        self._told, self._told_s = view.standing, now_s
        return []
