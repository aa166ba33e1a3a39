"""Circuit breakers around the adapters of this process, and their reports for `status`.

`fleet.circuit_breaker` decides; here are the lock, the clock and the wrappers that give a registry
or a router a breaker without its knowing. A refusal (`PermanentError`) is an answer and counts as
success; everything else counts as failure.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TypeVar

from fleet.circuit_breaker import (
    BreakerPhase,
    BreakerPolicy,
    BreakerState,
    BreakerStatus,
    admit_call,
    note_failure,
    note_success,
    validate_breaker_policy,
)
from fleet.errors import CircuitOpenError, PermanentError
from fleet.ports.breaker_store import BreakerStore
from fleet.ports.clock import Clock
from fleet.ports.service_registry import OrderResult, ServiceRead, ServiceRegistry
from fleet.ports.traffic import RouteResult, TrafficRouter
from fleet.routes import LiveRoutes, RouteTable
from fleet.services import CheckReport, Endpoint, GrayVerdict, Registration, Removal, Renewal

T = TypeVar("T")
_REPEAT_S = 60.0
"""A breaker that is not closed is reported again this often: reports expire."""
_REPEAT_CLOSED_S = 300.0
"""The same of closed ones, by a process that reports them."""


class CircuitBreaker:
    """One breaker; safe for threads. The guarded call itself runs outside its lock."""

    def __init__(self, name: str, policy: BreakerPolicy, clock: Clock) -> None:
        """Start closed."""
        self.name = name
        self._policy = validate_breaker_policy(policy)
        self._clock = clock
        self._state = BreakerState()
        self._changed_at = clock.now()
        self._lock = Lock()

    def call(self, action: Callable[[], T]) -> T:
        """Run an action unless the breaker is open, and learn from how it ends.

        Raises:
            CircuitOpenError: it is open; the action was not run.
        """
        with self._lock:
            state, admitted = admit_call(self._policy, self._state, self._clock.monotonic_s())
            self._enter(state)
            if not admitted:
                raise self._refusal()
        try:
            result = action()
        except PermanentError:
            self._note_success()
            raise
        except Exception as error:
            # A defect of ours must not leave a probe pending, so it counts as a failure too.
            text = str(error) or type(error).__name__
            with self._lock:
                now_s = self._clock.monotonic_s()
                self._enter(note_failure(self._policy, self._state, text, now_s))
            raise
        self._note_success()
        return result

    def status(self, holder: str) -> BreakerStatus:
        """The breaker now."""
        with self._lock:
            state = self._state
            return BreakerStatus(
                self.name, holder, state.phase, state.failures, state.reason, self._changed_at
            )

    def _note_success(self) -> None:
        with self._lock:
            self._enter(note_success(self._policy, self._state))

    def _enter(self, state: BreakerState) -> None:
        if state.phase is not self._state.phase:
            self._changed_at = self._clock.now()
        self._state = state

    def _refusal(self) -> CircuitOpenError:
        left_s = max(0.0, self._state.until_s - self._clock.monotonic_s())
        return CircuitOpenError(
            f"{self.name}: circuit {self._state.phase} after {self._state.failures} failures "
            f"({self._state.reason}); not asked",
            hint=f"The next try is made in {left_s:.0f} s; repair {self.name} meanwhile.",
        )


class CircuitBreakers:
    """All breakers of a process, by name.

    Args:
        clock: times them.
        policy: when they open and close.
        tells_closed: report closed ones as well, so that `status` shows what is guarded: for the
            process that lives as long as the deployment, not for one of a run.
    """

    def __init__(
        self, clock: Clock, policy: BreakerPolicy | None = None, *, tells_closed: bool = False
    ) -> None:
        """Start without any."""
        self._tells_closed = tells_closed
        self._clock = clock
        self._policy = policy or BreakerPolicy()
        self._breakers: dict[str, CircuitBreaker] = {}
        self._reported: dict[str, tuple[BreakerPhase, float]] = {}
        self._lock = Lock()
        self.holder = f"{socket.gethostname()}/{os.getpid()}"

    def breaker(self, name: str) -> CircuitBreaker:
        """The breaker of that name, made at the first use."""
        with self._lock:
            if name not in self._breakers:
                self._breakers[name] = CircuitBreaker(name, self._policy, self._clock)
            return self._breakers[name]

    def statuses(self) -> list[BreakerStatus]:
        """All breakers, ordered by name."""
        with self._lock:
            breakers = list(self._breakers.values())
        return sorted(breaker.status(self.holder) for breaker in breakers)

    def publish(self, store: BreakerStore) -> list[BreakerStatus]:
        """Report what `status` does not know yet: called after each tick or op.

        Returns:
            What was reported: breakers whose phase changed, and those not closed every minute.

        Raises:
            StoreUnavailableError: nothing was reported; the next call reports it.
        """
        now_s = self._clock.monotonic_s()
        news = [status for status in self.statuses() if self._is_news(status, now_s)]
        if news:
            store.report_breakers(news)
        for status in news:
            self._reported[status.name] = (status.phase, now_s)
        return news

    def _is_news(self, status: BreakerStatus, now_s: float) -> bool:
        known = self._reported.get(status.name)
        if known is None:
            return self._tells_closed or status.phase is not BreakerPhase.CLOSED
        phase, at_s = known
        if status.phase is not phase:
            return True
        if status.phase is BreakerPhase.CLOSED:
            return self._tells_closed and now_s - at_s >= _REPEAT_CLOSED_S
        return now_s - at_s >= _REPEAT_S


class GuardedRouter:
    """A traffic router behind a breaker; a refused table is an answer, not a failure."""

    def __init__(
        self, router: TrafficRouter, breakers: CircuitBreakers, name: str | None = None
    ) -> None:
        """Guard it under `traffic/<name>`; without a name, its own is taken."""
        self._router = router
        self._breaker = breakers.breaker(f"traffic/{name or router.name}")

    @property
    def name(self) -> str:
        """Of the guarded one."""
        return self._router.name

    def apply_routes(self, tables: Sequence[RouteTable]) -> list[RouteResult]:
        """See the port; `CircuitOpenError` when it was not asked."""
        return self._breaker.call(lambda: self._router.apply_routes(tables))

    def live_routes(self, service: str) -> LiveRoutes | None:
        """See the port; `CircuitOpenError` when it was not asked."""
        return self._breaker.call(lambda: self._router.live_routes(service))


class GuardedServiceRegistry:
    """A service registry behind a breaker; a refused order is an answer, not a failure."""

    def __init__(self, registry: ServiceRegistry, breakers: CircuitBreakers, name: str) -> None:
        """Guard it under `registry/<name>`."""
        self._registry = registry
        self._breaker = breakers.breaker(f"registry/{name}")

    def register_endpoints(self, endpoints: Sequence[Endpoint]) -> list[OrderResult]:
        """See the port."""
        return self._breaker.call(lambda: self._registry.register_endpoints(endpoints))

    def renew_endpoints(self, renewals: Sequence[Renewal]) -> list[OrderResult]:
        """See the port."""
        return self._breaker.call(lambda: self._registry.renew_endpoints(renewals))

    def remove_endpoints(self, removals: Sequence[Removal]) -> list[OrderResult]:
        """See the port."""
        return self._breaker.call(lambda: self._registry.remove_endpoints(removals))

    def mark_gray(self, verdicts: Sequence[GrayVerdict]) -> list[OrderResult]:
        """See the port."""
        return self._breaker.call(lambda: self._registry.mark_gray(verdicts))

    def report_checks(self, reports: Sequence[CheckReport]) -> list[OrderResult]:
        """See the port."""
        return self._breaker.call(lambda: self._registry.report_checks(reports))

    def services(self) -> list[str]:
        """See the port."""
        return self._breaker.call(self._registry.services)

    def read_services(self, services: Sequence[str]) -> list[ServiceRead]:
        """See the port."""
        return self._breaker.call(lambda: self._registry.read_services(services))

    def registrations_of(self, agent_ids: Sequence[str]) -> list[Registration]:
        """See the port."""
        return self._breaker.call(lambda: self._registry.registrations_of(agent_ids))
