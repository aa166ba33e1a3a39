"""Keeps routers as the registry is, between failovers: looks, compares, gives what differs, tells.

One keeper lives as long as its process, because what it needs is memory: how long each endpoint has
been silent, and which tables are in force. Only the process whose controller leads keeps routes,
under that controller's term; the store is asked for the term right before, and routers refuse a
lower one. Each look is made up for by the next: an application that broke off, a router that was
started anew or was changed by another hand (a failover run gives tables too) gets its tables again.

Silence is judged only while the controller is healthy and not paused; what nodes themselves say
(an agent registered, stopped, moved) goes on to the routers all the same.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from fleet.errors import LeaseLostError, StateroomError, TransientError
from fleet.incidents import IncidentHeader, IncidentKind
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.service_registry import ServiceRead, ServiceRegistry
from fleet.routes_upkeep import (
    RouterStanding,
    UpkeepPolicy,
    is_to_be_told,
    note_router,
    validate_upkeep_policy,
)
from fleet.service_health import ServiceView
from fleet.traffic_declaration import TrafficDeclaration
from ops.failover_watch import LeaderStanding
from ops.router_hand import Outcome, RouterHand
from ops.router_incidents import Asked, open_traffic_incidents, settle_incidents
from resources.circuit_breakers import CircuitBreakers
from resources.service_registry.directory import ServiceDirectory, Source
from resources.service_registry.opening import open_registry
from resources.traffic.opening import opened_routers

WAIT_S = 1.0
"""For routers to take their tables within a look; slower ones are heard by a later look."""

LOOK_RATIO = 5.0
"""Looks begin at least so many times as far apart as reading and comparing took: over 100,000
endpoints, 1.4 s of CPU, that is a fifth of one processor, which the failover's ticks share."""

_SAID_MAX = 50
"""Sentences that are kept until somebody takes them."""


class Kept(NamedTuple):
    """What one look came to."""

    idle: str = ""
    """Why nothing was looked at; '' when it was."""
    term: int = 0
    services: int = 0
    endpoints: int = 0
    """That routers send requests to."""
    withheld: int = 0
    """Present, and not given to routers."""
    outcomes: Mapping[str, Outcome] = {}
    """Router to what it was given; absent when nothing differed."""
    said: tuple[str, ...] = ()
    """What is news, in sentences."""


class _Reader:
    """The registry of this look; each tick opens the store anew."""

    def __init__(self) -> None:
        """None yet."""
        self.registry: ServiceRegistry | None = None

    def read_services(self, services: Sequence[str]) -> list[ServiceRead]:
        """See the port."""
        assert self.registry is not None, "set by each look"
        return self.registry.read_services(services)


class RouteKeeper:
    """The keeper of this process; opens nothing before its first look.

    Args:
        declaration: registry, routers and numbers.
        clock: monotonic seconds, and dates of incidents.
        policy: how often and how much; None derives it from the declaration's numbers.
        wait_s: for routers, within a look.
    """

    def __init__(
        self,
        declaration: TrafficDeclaration,
        clock: Clock,
        policy: UpkeepPolicy | None = None,
        *,
        wait_s: float = WAIT_S,
    ) -> None:
        """Know nothing yet."""
        self._declaration, self._clock, self._wait_s = declaration, clock, wait_s
        services = declaration.policy
        self.policy = validate_upkeep_policy(
            policy or UpkeepPolicy(services.check_interval_s, services.entry_ttl_s)
        )
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._breakers = CircuitBreakers(clock, tells_closed=True)
        self._reader = _Reader()
        self._trusted = False
        self._directory = ServiceDirectory(self._reader, services, clock, lambda: self._trusted)
        self._hands: tuple[RouterHand, ...] | None = None
        self._services: list[str] = []
        self._registry_standing = RouterStanding()
        self._looked_s = float("-inf")
        self._lasted_s = 0.0
        self._term: int | None = None
        self._said: list[str] = []

    def look(self, store: ControlStore, standing: LeaderStanding) -> Kept:
        """Look once, unless that was just done, and bring every router up to date that answers.

        Args:
            store: the control store, which is the registry too unless another is declared.
            standing: whether this process leads, under which term.

        Raises:
            StoreUnavailableError: the control store does not answer; look again.
        """
        with self._lock:
            now_s = self._clock.monotonic_s()
            if now_s - self._looked_s < max(self.policy.interval_s, LOOK_RATIO * self._lasted_s):
                return Kept(idle="it has just been looked at")
            if standing.term is None:
                self._lead(None)
                return Kept(idle=f"this process does not lead: {standing.reason}")
            self._looked_s = now_s
            try:
                store.demand_leader_term(standing.term)
            except LeaseLostError as error:
                self._lead(None)
                return Kept(idle=str(error))
            self._lead(standing.term)
            self._trusted = standing.trusted and not store.automation().paused
            return self._keep(store, standing.term)

    def take_said(self) -> tuple[str, ...]:
        """Sentences of all looks since they were taken last, the newest at the end."""
        with self._lock:
            said, self._said = tuple(self._said), []
            return said

    def has_said(self) -> bool:
        """Whether there is news to be taken."""
        return bool(self._said)

    def close(self) -> None:
        """Let go of what the routers hold."""
        self._stack.close()

    def _lead(self, term: int | None) -> None:
        if term != self._term and self._hands:
            for hand in self._hands:
                hand.forget()
        self._term = term

    def _opened(self) -> tuple[RouterHand, ...]:
        if self._hands is None:
            routers = self._stack.enter_context(
                opened_routers(self._declaration.routers, self._breakers)
            )
            self._hands = tuple(RouterHand(one, self.policy) for one in routers)
        return self._hands

    def _keep(self, store: ControlStore, term: int) -> Kept:
        hands = self._opened()
        open_incidents = open_traffic_incidents(store)
        views, problem = self._read(store)
        self._registry_standing = note_router(self._registry_standing, problem)
        outcomes = self._collect(hands)  # of calls of earlier looks
        self._lasted_s = self._clock.monotonic_s() - self._looked_s
        if not problem:
            begun = [hand for hand in hands if hand.name not in outcomes]
            for hand in begun:
                hand.begin(views, term, self._clock.monotonic_s())
            self._lasted_s = self._clock.monotonic_s() - self._looked_s
            ends_s = time.monotonic() + self._wait_s
            for hand in begun:
                hand.wait(max(0.0, ends_s - time.monotonic()))
            outcomes |= self._collect(begun)
        said = self._tell(store, term, outcomes, open_incidents)
        self._said = [*self._said, *said][-_SAID_MAX:]
        self._breakers.publish(store)
        return Kept(
            "",
            term,
            len(views),
            sum(len(one.served) for one in views),
            sum(len(one.withheld) for one in views),
            outcomes,
            tuple(said),
        )

    def _read(self, store: ControlStore) -> tuple[list[ServiceView], str]:
        """Whom readers of all services are given, or why that is not known."""
        registry = open_registry(self._declaration.registry, store, self._breakers)
        self._reader.registry = registry
        try:
            self._services = registry.services()
            answers = self._directory.refresh(self._services)
        except TransientError as error:
            self._directory.distrust(error)
            return [], str(error)
        except StateroomError as error:
            return [], str(error)
        stale = next((one for one in answers if one.source is not Source.LIVE), None)
        return [one.view for one in answers], "" if stale is None else stale.problem

    def _collect(self, hands: Sequence[RouterHand]) -> dict[str, Outcome]:
        found = ((hand.name, hand.collect(self._clock.monotonic_s())) for hand in hands)
        return {name: outcome for name, outcome in found if outcome is not None}

    def _tell(
        self,
        store: ControlStore,
        term: int,
        outcomes: Mapping[str, Outcome],
        known: Mapping[str, IncidentHeader],
    ) -> list[str]:
        """Open and end incidents of this look; returns what is news."""
        said = [
            f"router {name}: {outcome.changed} of {outcome.given} tables were new: {outcome.told}"
            for name, outcome in sorted(outcomes.items())
            if outcome.changed
        ]
        registry = self._registry_standing
        asked = [
            Asked(
                IncidentKind.REGISTRY,
                self._declaration.registry.kind.value,
                registry.problem,
                is_to_be_told(registry, self.policy, is_open=False),
                has_answered=not registry.failures,
            )
        ]
        for hand in self._hands or ():
            outcome = outcomes.get(hand.name)
            is_open = outcome is not None and outcome.is_open
            asked.append(
                Asked(
                    IncidentKind.ROUTER,
                    hand.name,
                    hand.standing.problem,
                    is_to_be_told(hand.standing, self.policy, is_open=is_open),
                    has_answered=outcome is not None and not outcome.problem,
                )
            )
        return said + settle_incidents(store, asked, known, self._clock.now(), term)
