"""The one controller of a process, kept from tick to tick, and the orders that wait for a launch.

Two sensors ask it, from two threads: whoever comes first lets it look, and each takes the orders
that are its own. Ages, votes and the leader lease are memory of this process; a new process starts
from the state that the sensor's cursor holds, and waits in full again.
"""

import os
import secrets
import socket
import threading
from collections.abc import Callable, Collection
from typing import NamedTuple

from fleet.failover.explain import explain
from fleet.failover.records import ControllerState, FailoverState
from fleet.failover.state_json import decode_state, encode_state
from fleet.failover_declaration import FailoverDeclaration
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.infrastructure import InfrastructureReader
from fleet.ports.notifier import Notifier
from fleet.ports.service_registry import ServiceRegistry
from fleet.probing import ProbePolicy
from fleet.traffic_declaration import (
    CONTROL_STORE_REGISTRY,
    RegistryDeclaration,
    RegistryKind,
)
from ops.failover_controller import FailoverController, Tick
from ops.failover_evidence import EvidenceReader, WatchPorts
from resources.circuit_breakers import CircuitBreakers
from resources.controller_prober import ControllerProber
from resources.leader_lease import LEADER_RENEW_S, LeaderLease
from resources.service_registry.opening import open_registry

FRESH_S = 0.1
"""A look this young serves the other sensor as well."""


class Watched(NamedTuple):
    """What a sensor learns from one look."""

    orders: tuple[FailoverOrder, ...]
    controller: ControllerState
    said: tuple[str, ...]
    """The decision in sentences, where anything changed."""
    state: str
    """What to keep for the next process."""


class LeaderStanding(NamedTuple):
    """Whether this process may act, for whoever acts beside the failover itself."""

    term: int | None
    """Under which it leads now; None: it does not."""
    trusted: bool
    """Its controller looks and is not frozen: silence may be judged."""
    reason: str = ""
    """Why it does not lead, or is not trusted."""


class FailoverWatch:
    """The controller of this process, made when it is first asked.

    Args:
        open_store: opens the control store for as long as the process lives.
        declaration: policy and targets.
        probing: as the supervisors probe.
        clock: of this machine.
        notifier: whom alerts reach.
        infrastructure: says which nodes are gone for certain; None for nobody.
        registry: of services, where verdicts on gray nodes are recorded.
    """

    def __init__(
        self,
        open_store: Callable[[], ControlStore],
        declaration: FailoverDeclaration,
        probing: ProbePolicy,
        clock: Clock,
        notifier: Notifier,
        infrastructure: InfrastructureReader | None = None,
        registry: RegistryDeclaration = CONTROL_STORE_REGISTRY,
    ) -> None:
        """Open nothing yet."""
        self._open_store, self._declaration, self._probing = open_store, declaration, probing
        self._clock, self._notifier = clock, notifier
        self._infrastructure, self._registry = infrastructure, registry
        self._lock = threading.Lock()
        self._controller: FailoverController | None = None
        self._leader: LeaderLease | None = None
        self._store: ControlStore | None = None
        self._identity = ""
        self._waiting: dict[str, tuple[float, FailoverOrder]] = {}
        self._last: tuple[float, Tick] | None = None
        self._campaigned_s = float("-inf")

    def look(self, kinds: Collection[OrderKind], cursor: str | None) -> Watched:
        """Look once, unless somebody just has, and take the orders of these kinds.

        Args:
            kinds: orders that the caller launches.
            cursor: what the caller kept of an earlier look; used when this process has none.

        Raises:
            StoreUnavailableError: the store cannot even be opened.
        """
        with self._lock:
            controller = self._controller or self._start(cursor)
            now_s = self._clock.monotonic_s()
            fresh = self._last is not None and now_s - self._last[0] < FRESH_S
            tick = self._last[1] if fresh and self._last else self._tick(controller)
            orders = self._take(kinds)
            said = _sayings(tick)
            return Watched(orders, tick.decision.controller, said, encode_state(controller.state))

    def standing(self) -> LeaderStanding:
        """Whether this process leads, asking nobody: a look that hangs does not hold the asker up.

        Where failover is disabled nobody looks, so the asker's question keeps the leader lease.
        """
        if not self._declaration.enabled:
            with self._lock:
                leader = self._leader or self._candidate()
                self._campaign(leader)
            now = leader.leadership()
            return LeaderStanding(now.term if now.held else None, now.held, now.reason)
        if self._leader is None:
            return LeaderStanding(None, False, "the controller of this process has not looked yet")
        now = self._leader.leadership()
        if not now.held:
            return LeaderStanding(None, False, now.reason)
        policy, last = self._declaration.policy, self._last
        longest_s = policy.tick_interval_s * policy.tick_gap_intervals
        if last is None or self._clock.monotonic_s() - last[0] > longest_s:
            return LeaderStanding(now.term, False, "the controller has not looked for long")
        controller = last[1].decision.controller
        trusted = controller is ControllerState.ACTIVE
        return LeaderStanding(
            now.term, trusted, "" if trusted else f"the controller is {controller}"
        )

    def _candidate(self) -> LeaderLease:
        """Open the store, and stand for election with it."""
        self._store = self._open_store()
        self._identity = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._leader = LeaderLease(self._store, self._identity)
        return self._leader

    def _campaign(self, leader: LeaderLease) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._campaigned_s >= LEADER_RENEW_S or not leader.leadership().held:
            self._campaigned_s = now_s
            leader.campaign()

    def _open_registry(self, store: ControlStore) -> ServiceRegistry | None:
        """One beside the store; that it is away is told by the keeper of routes."""
        if self._registry.kind is RegistryKind.CONTROL_STORE:
            return None
        return open_registry(self._registry, store, CircuitBreakers(self._clock))

    def _start(self, cursor: str | None) -> FailoverController:
        leader = self._leader or self._candidate()
        assert self._store is not None, "opened with the candidate"
        ports = WatchPorts(
            self._store,
            self._clock,
            leader,
            ControllerProber(self._probing),
            self._infrastructure,
            self._open_registry(self._store),
        )
        reader = EvidenceReader(ports, self._declaration.policy, self._probing, self._identity)
        state = decode_state(cursor) if cursor else FailoverState()
        self._controller = FailoverController(
            ports, reader, self._declaration, self._notifier, state
        )
        return self._controller

    def _tick(self, controller: FailoverController) -> Tick:
        assert self._leader is not None, "made with the controller"
        self._campaign(self._leader)
        tick = controller.tick()
        self._last = (self._clock.monotonic_s(), tick)
        for order in tick.orders:
            name = f"{order.incident_id}/{order.kind}/{order.subject}/{order.label}"
            self._waiting[name] = (self._last[0], order)
        return tick

    def _take(self, kinds: Collection[OrderKind]) -> tuple[FailoverOrder, ...]:
        """Orders of these kinds; those that nobody took for long are asked for again anyway."""
        now_s = self._clock.monotonic_s()
        keep_s = self._declaration.policy.move_retry_s
        mine = [name for name, (_, order) in self._waiting.items() if order.kind in kinds]
        taken = tuple(self._waiting.pop(name)[1] for name in mine)
        self._waiting = {
            name: kept for name, kept in self._waiting.items() if now_s - kept[0] < keep_s
        }
        return taken


def _sayings(tick: Tick) -> tuple[str, ...]:
    decision = tick.decision
    if not (decision.actions or decision.transitions or decision.non_actions or tick.faults):
        return ()
    return (*explain(decision), *tick.faults)
