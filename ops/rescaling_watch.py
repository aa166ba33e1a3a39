"""The one controller of rescaling of a process, kept from tick to tick.

What it opens (store, metric store) stays open as long as the process lives. People are told when a
source of metrics is gone, once, and when it is back.
"""

import os
import secrets
import socket
import threading
from collections.abc import Callable
from typing import NamedTuple

from fleet.errors import StateroomError
from fleet.leases import RESCALING_LEASE
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from fleet.ports.notifier import Alert, Notifier
from fleet.ports.query_engine import QueryEngine
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.standing import ScalingOrder
from fleet.rescaling.telling import Verdict
from ops.rescaling import (
    LEASE_RENEW_S,
    LEASE_TTL_S,
    Look,
    RescalingController,
    RescalingPorts,
)
from resources.leader_lease import LeaderLease

ALERT_KEY = "rescaling/metrics"
BLIND_LOOKS = 2
"""So many looks in a row without an answer are told: one may be a scrape that came late."""
_NAMED = 5


class Watched(NamedTuple):
    """What a sensor learns from one pass."""

    look: Look | None
    """None: no look was due; the lease was kept all the same."""
    reason: str
    """Why nothing was looked at; empty when something was."""


class RescalingWatch:
    """Looks every `tick_s`, and at once when somebody has given an order.

    Args:
        open_store: opens the control store for as long as the process lives.
        open_engine: opens what answers PromQL likewise; None: there are no metrics.
        declaration: what is scaled, and how.
        clock: of this machine.
        notifier: whom alerts reach.
        open_lake: opens the lake, for forecasts; None: there are none.
    """

    def __init__(
        self,
        open_store: Callable[[], ControlStore],
        open_engine: Callable[[], QueryEngine] | None,
        declaration: RescalingDeclaration,
        clock: Clock,
        notifier: Notifier,
        open_lake: Callable[[], Lake] | None = None,
    ) -> None:
        """Open nothing yet."""
        self._open_store, self._open_engine = open_store, open_engine
        self._declaration, self._clock, self._notifier = declaration, clock, notifier
        self._open_lake = open_lake
        self._lock = threading.Lock()
        self._controller: RescalingController | None = None
        self._ports: RescalingPorts | None = None
        self._looked_s = float("-inf")
        self._campaigned_s = float("-inf")
        self._orders: list[ScalingOrder] | None = None
        self._blind = 0
        self._told = False

    def watch(self) -> Watched:
        """Look if a look is due; else keep the lease, and see whether somebody has ordered.

        Raises:
            StoreUnavailableError: the store cannot be reached.
        """
        with self._lock:
            ports = self._ports or self._start()
            now_s = self._clock.monotonic_s()
            orders = ports.store.scaling_orders()
            if not self._declaration.workloads and not orders:
                return Watched(None, "no workload is scaled, and nobody has ordered a number")
            due = now_s - self._looked_s >= self._declaration.tick_s or orders != self._orders
            if not due:
                self._keep_lease(ports, now_s)
                left_s = self._declaration.tick_s - (now_s - self._looked_s)
                return Watched(None, f"the next look is due in {left_s:.0f} s")
            assert self._controller is not None, "made with the ports"
            self._campaigned_s = now_s
            look = self._controller.look()
            self._looked_s, self._orders = now_s, orders
            if look.leads:
                self._tell(look)
            return Watched(look, "")

    def _keep_lease(self, ports: RescalingPorts, now_s: float) -> None:
        if now_s - self._campaigned_s >= LEASE_RENEW_S:
            self._campaigned_s = now_s
            ports.leader.campaign()

    def _start(self) -> RescalingPorts:
        store = self._open_store()
        identity = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        leader = LeaderLease(
            store, identity, ttl_s=LEASE_TTL_S, renew_s=LEASE_RENEW_S, name=RESCALING_LEASE
        )
        engine = None if self._open_engine is None else self._open_engine()
        self._ports = RescalingPorts(store, self._clock, leader, engine, self._open_lake)
        self._controller = RescalingController(self._ports, self._declaration)
        return self._ports

    def _tell(self, look: Look) -> None:
        """Tell people that metrics are gone or back; who was not reached is told with the next."""
        blind = [one for one in look.decisions if one.verdict == Verdict.BLIND]
        self._blind = self._blind + 1 if blind else 0
        if (self._blind >= BLIND_LOOKS) == self._told or 0 < self._blind < BLIND_LOOKS:
            return
        now = self._clock.now()
        if blind:
            names = ", ".join(f"{one.workload} in {one.region}" for one in blind[:_NAMED])
            text = (
                f"{len(blind)} workloads are not scaled for want of metrics ({names}): "
                f"{blind[0].reason}"
            )
            alert = Alert("metrics of rescaling", "error", text, now, ALERT_KEY)
        else:
            text = "every workload is decided on its metrics again"
            alert = Alert("metrics of rescaling", "resolved", text, now, ALERT_KEY)
        try:
            self._notifier.notify(alert)
        except StateroomError as error:
            self.problem = f"nobody was told: {error}"
            return
        self._told = bool(blind)

    problem = ""
    """Why people were not told; for the sensor's log."""
