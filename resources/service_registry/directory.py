"""The directory: what readers of services ask instead of the registry itself.

It answers from its cache for `cache_ttl_s`, then reads again. When the registry does not answer it
serves what it knew last, and says so; while that lasts, or while the controller is not healthy,
nothing is newly withheld, and all ages begin again afterwards. Nothing is kept on disk: a reader
that starts while the registry is down gets an error (the balancers keep their tables meanwhile).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from threading import RLock
from typing import NamedTuple

from fleet.errors import TransientError
from fleet.ports.clock import Clock
from fleet.ports.service_registry import ServiceRead, ServiceReader
from fleet.service_health import RenewalAges, ServicePolicy, ServiceView, plan_view
from fleet.services import endpoint_key


class Source(StrEnum):
    """Where an answer comes from."""

    LIVE = "live"
    CACHE = "cache"
    LAST_KNOWN_GOOD = "last known good"
    """The registry does not answer."""


class DirectoryAnswer(NamedTuple):
    """A service's view, and what it is worth."""

    view: ServiceView
    source: Source
    age_s: float
    """Seconds since it was read from the registry."""
    problem: str
    """Why it is not newer; '' when nothing is wrong."""


class _Known(NamedTuple):
    view: ServiceView
    read_s: float
    keys: frozenset[str]
    """Of the entries it was made from."""
    is_outdated: bool = False
    """Somebody said that it has changed."""


class ServiceDirectory:
    """Views of services for readers of one process; safe for threads.

    Args:
        registry: what is read.
        policy: times and limits.
        clock: monotonic seconds.
        is_controller_healthy: asked at each read of the registry; False while the controller is
            FROZEN or nobody leads.
    """

    def __init__(
        self,
        registry: ServiceReader,
        policy: ServicePolicy,
        clock: Clock,
        is_controller_healthy: Callable[[], bool],
    ) -> None:
        """Nothing is read before the first question."""
        self._registry = registry
        self._policy = policy
        self._clock = clock
        self._is_controller_healthy = is_controller_healthy
        self._ages = RenewalAges(policy)
        self._known: dict[str, _Known] = {}
        self._problem = ""
        self._was_trusted = True
        self._lock = RLock()

    def answer(self, service: str) -> DirectoryAnswer:
        """The view of a service, from the cache while that is young enough.

        Raises:
            TransientError: the registry does not answer, and this service was never read.
        """
        with self._lock:
            known = self._known.get(service)
            now_s = self._clock.monotonic_s()
            if (
                known is None
                or known.is_outdated
                or now_s - known.read_s > self._policy.cache_ttl_s
            ):
                return self.refresh([service])[0]
            problem = self._problem
            source = Source.LAST_KNOWN_GOOD if problem else Source.CACHE
            return DirectoryAnswer(known.view, source, now_s - known.read_s, problem)

    def refresh(self, services: Sequence[str]) -> list[DirectoryAnswer]:
        """Read services now, whatever their age; one read for all.

        Raises:
            TransientError: the registry does not answer, and one of them was never read.
        """
        with self._lock:
            try:
                reads = self._registry.read_services(services)
            except TransientError as error:
                return self._last_known(services, error)
            now_s = self._clock.monotonic_s()
            trusted = self._is_controller_healthy()
            if trusted and not self._was_trusted:
                self._ages.restart(now_s, self._withheld())
            self._was_trusted = trusted
            self._problem = ""
            return [self._take(read, now_s, trusted=trusted) for read in reads]

    def distrust(self, error: TransientError) -> None:
        """The registry did not answer somebody else: all ages begin again when it does."""
        with self._lock:
            self._problem = str(error)
            self._was_trusted = False

    def forget(self, service: str) -> None:
        """Read the service at the next question: it was just changed."""
        with self._lock:
            known = self._known.get(service)
            if known is not None:
                self._known[service] = known._replace(is_outdated=True)

    def _withheld(self) -> set[str]:
        """Keys of all entries that are withheld now."""
        return {
            endpoint_key(service, agent_id)
            for service, known in self._known.items()
            for agent_id in known.view.withheld
        }

    def _take(self, read: ServiceRead, now_s: float, *, trusted: bool) -> DirectoryAnswer:
        keys = frozenset(entry.endpoint.key for entry in read.registrations)
        before = self._known.get(read.service)
        self._ages.see(read.registrations, now_s)
        if before is not None:
            self._ages.forget(before.keys - keys)
        silent_s = {
            entry.endpoint.agent_id: self._ages.silent_s(entry.endpoint.key, now_s)
            for entry in read.registrations
        }
        view = plan_view(
            read.service,
            read.revision,
            read.registrations,
            silent_s,
            self._policy,
            trusted=trusted,
            before=None if before is None else before.view,
        )
        self._known[read.service] = _Known(view, now_s, keys)
        return DirectoryAnswer(view, Source.LIVE, 0.0, "")

    def _last_known(self, services: Sequence[str], error: TransientError) -> list[DirectoryAnswer]:
        self._problem = str(error)
        self._was_trusted = False
        if any(service not in self._known for service in services):
            raise error
        now_s = self._clock.monotonic_s()
        return [
            DirectoryAnswer(
                self._known[service].view,
                Source.LAST_KNOWN_GOOD,
                now_s - self._known[service].read_s,
                self._problem,
            )
            for service in services
        ]
