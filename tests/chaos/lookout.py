"""Looks at a chaotic fleet twice a second, from a thread with a store of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fleet.controller_view import doubted_nodes
from fleet.errors import StateroomError
from fleet.failover.records import ControllerState
from fleet.inventory import NodePhase
from fleet.leases import LEADER_LEASE
from fleet.ports.control_store import ControlStore
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.linux_processes import ProcessIdentity, read_stat
from tests.chaos.parkings import Look

EVERY_S = 0.5


class Lookout:
    """Keeps what could have taken agents in, at each moment.

    Args:
        store_url: of the fleet's control store.
        leaders: the supervisor of each node that has been started, by node.
    """

    def __init__(self, store_url: str, leaders: Callable[[], dict[str, ProcessIdentity]]) -> None:
        """Look from now on."""
        self.looks: list[Look] = []
        self._url, self._leaders = store_url, leaders
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lookout", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more; can be called again."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        store = open_control_store(self._url, clock=SystemClock())
        try:
            while not self._stop.wait(EVERY_S):
                at = SystemClock().now()
                try:
                    working = self._working(store)
                    trusted = working - self._doubted(store, working)
                except StateroomError:
                    continue  # a gap: what was not seen is held against nobody
                self.looks.append(Look(at, frozenset(working), frozenset(trusted)))
        finally:
            store.close()

    def _working(self, store: ControlStore) -> set[str]:
        runs = {
            node_id
            for node_id, leader in self._leaders().items()
            if (stat := read_stat(leader.pid)) is not None
            and stat.start_ticks == leader.start_ticks
            and stat.state not in "TtZX"
        }
        return {one.node_id for one in store.nodes() if one.phase == NodePhase.RUNNING} & runs

    def _doubted(self, store: ControlStore, nodes: set[str]) -> set[str]:
        """Nodes that nobody may be given: all of them while no controller acts."""
        kept, lease = store.controller_view(), store.lease(LEADER_LEASE)
        acts = kept is not None and kept.view.controller is ControllerState.ACTIVE
        if not acts or lease is None or lease.expires_at < SystemClock().now():
            return nodes
        assert kept is not None
        return set(doubted_nodes(kept.view))
