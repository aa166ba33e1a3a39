"""The service registry and the breakers' board as plain dictionaries: the twin of the adapters.

Its rules are written out here once more, plainly, instead of calling `settle_order`: two ways to
the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from threading import RLock

from fleet.circuit_breaker import BreakerStatus
from fleet.errors import LeaseLostError, NotFoundError, StaleEpochError
from fleet.ports.service_registry import OrderResult, ServiceRead
from fleet.services import (
    CheckHealth,
    CheckReport,
    Endpoint,
    GrayVerdict,
    Order,
    Registration,
    Removal,
    Renewal,
    validate_order,
)


class InMemoryServiceRegistry:
    """`fleet.ports.service_registry.ServiceRegistry` for tests."""

    def __init__(self) -> None:
        """Start empty."""
        self._registry_lock = RLock()
        self._entries: dict[tuple[str, str], Registration] = {}
        self._floors: dict[tuple[str, str], int] = {}
        self._terms: dict[tuple[str, str], int] = {}
        self._renewal_counts: dict[tuple[str, str], int] = {}
        self._revisions: dict[str, int] = {}

    def register_endpoints(self, endpoints: Sequence[Endpoint]) -> list[OrderResult]:
        """Insert, replace or renew."""
        return self._each(endpoints, self._register)

    def renew_endpoints(self, renewals: Sequence[Renewal]) -> list[OrderResult]:
        """Count signs of life."""
        return self._each(renewals, self._renew)

    def remove_endpoints(self, removals: Sequence[Removal]) -> list[OrderResult]:
        """Take out copies."""
        return self._each(removals, self._remove)

    def mark_gray(self, verdicts: Sequence[GrayVerdict]) -> list[OrderResult]:
        """Record verdicts."""
        return self._each(verdicts, self._mark)

    def report_checks(self, reports: Sequence[CheckReport]) -> list[OrderResult]:
        """Record checks."""
        return self._each(reports, self._check)

    def services(self) -> list[str]:
        """All names ever seen."""
        with self._registry_lock:
            return sorted(self._revisions)

    def read_services(self, services: Sequence[str]) -> list[ServiceRead]:
        """Present entries."""
        with self._registry_lock:
            return [
                ServiceRead(
                    name,
                    self._revisions.get(name, 0),
                    tuple(self._entries[key] for key in sorted(self._entries) if key[0] == name),
                )
                for name in services
            ]

    def registrations_of(self, agent_ids: Sequence[str]) -> list[Registration]:
        """Entries of agents."""
        with self._registry_lock:
            keys = sorted(self._entries, key=lambda key: (key[1], key[0]))
            return [self._entries[key] for key in keys if key[1] in set(agent_ids)]

    def _each(self, orders: Sequence[Order], judge: Callable[..., None]) -> list[OrderResult]:
        for order in orders:
            validate_order(order)
        results = []
        with self._registry_lock:
            before = {
                place: self._visible(place)
                for place in ((order.service, order.agent_id) for order in orders)
            }
            for order in orders:
                place = (order.service, order.agent_id)
                try:
                    judge(place, order)
                except (StaleEpochError, LeaseLostError, NotFoundError) as error:
                    results.append(OrderResult(order.key, error))
                else:
                    results.append(OrderResult(order.key, None))
            changed = {place[0] for place, seen in before.items() if self._visible(place) != seen}
            for service in changed:
                self._revisions[service] = self._revisions.get(service, 0) + 1
        return results

    def _visible(self, place: tuple[str, str]) -> object:
        entry = self._entries.get(place)
        return entry and (entry.endpoint, entry.health, entry.gray, entry.reason)

    def _demand_epoch(self, place: tuple[str, str], epoch: int) -> None:
        if epoch < self._floors.get(place, 0):
            raise StaleEpochError(f"{place}: {epoch} < {self._floors[place]}")

    def _demand_term(self, place: tuple[str, str], term: int) -> None:
        if term < self._terms.get(place, 0):
            raise LeaseLostError(f"{place}: term {term}")
        self._terms[place] = term

    def _present(self, place: tuple[str, str], epoch: int) -> Registration:
        self._demand_epoch(place, epoch)
        entry = self._entries.get(place)
        if entry is None or entry.endpoint.epoch != epoch:
            raise NotFoundError(f"{place}")
        return entry

    def _register(self, place: tuple[str, str], endpoint: Endpoint) -> None:
        self._demand_epoch(place, endpoint.epoch)
        self._floors[place] = endpoint.epoch
        count = self._renewal_counts[place] = self._renewal_counts.get(place, -1) + 1
        known = self._entries.get(place)
        if known is None or known.endpoint.epoch != endpoint.epoch:
            known = Registration(endpoint)
        self._entries[place] = known._replace(
            endpoint=endpoint, renewals=count, term=self._terms.get(place, 0)
        )

    def _renew(self, place: tuple[str, str], renewal: Renewal) -> None:
        entry = self._present(place, renewal.epoch)
        self._renewal_counts[place] += 1
        self._entries[place] = entry._replace(
            renewals=self._renewal_counts[place], connections=renewal.connections
        )

    def _remove(self, place: tuple[str, str], removal: Removal) -> None:
        floor = removal.epoch + removal.moved
        repeated = place not in self._entries and self._floors.get(place) == floor
        if not repeated:
            self._demand_epoch(place, removal.epoch)
        if removal.term is not None:
            self._demand_term(place, removal.term)
        self._entries.pop(place, None)
        self._floors[place] = floor
        self._renewal_counts.setdefault(place, 0)

    def _mark(self, place: tuple[str, str], verdict: GrayVerdict) -> None:
        entry = self._present(place, verdict.epoch)
        self._demand_term(place, verdict.term)
        if entry.gray != verdict.gray:
            entry = entry._replace(gray=verdict.gray, reason=verdict.reason)
        self._entries[place] = entry._replace(term=verdict.term)

    def _check(self, place: tuple[str, str], report: CheckReport) -> None:
        entry = self._present(place, report.epoch)
        if entry.health is not CheckHealth(report.health):
            self._entries[place] = entry._replace(health=report.health, reason=report.reason)


class InMemoryBreakerStore:
    """`fleet.ports.breaker_store.BreakerStore` for tests."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Start empty."""
        self._now = now
        self._breakers: dict[tuple[str, str], tuple[BreakerStatus, datetime]] = {}

    def report_breakers(self, statuses: Sequence[BreakerStatus]) -> None:
        """Replace."""
        for status in statuses:
            self._breakers[status.name, status.holder] = (status, self._now())

    def breakers(self, reported_within_s: float = 900.0) -> list[BreakerStatus]:
        """Lately reported ones."""
        since = self._now() - timedelta(seconds=reported_within_s)
        return [status for _, (status, at) in sorted(self._breakers.items()) if at >= since]
