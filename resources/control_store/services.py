"""The service registry in SQL: one row per (service, agent), judged by `settle_order`.

Each call is one transaction, committed when it returns: all rows of the batch are locked in the
order of their keys, judged one after another, and written together with the revisions of the
services that changed. The revision's row is locked last and until the commit, so revisions rise in
commit order. A removed entry keeps its row, because its epoch must not be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

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
    is_visible_change,
    settle_order,
    validate_order,
)
from resources.control_store.database import Feature, upsert
from resources.control_store.driver_sql import DriverStatement
from resources.control_store.schema import service_endpoints, service_revisions

_COLUMNS = tuple(service_endpoints.c.keys())


class SqlServices(Feature):
    """The part of the control store that is a service registry."""

    def register_endpoints(self, endpoints: Sequence[Endpoint]) -> list[OrderResult]:
        """Insert, replace or renew."""
        return self._order(endpoints)

    def renew_endpoints(self, renewals: Sequence[Renewal]) -> list[OrderResult]:
        """Count signs of life."""
        return self._order(renewals)

    def remove_endpoints(self, removals: Sequence[Removal]) -> list[OrderResult]:
        """Take out copies that were stopped or moved."""
        return self._order(removals)

    def mark_gray(self, verdicts: Sequence[GrayVerdict]) -> list[OrderResult]:
        """Record the controller's verdicts."""
        return self._order(verdicts)

    def report_checks(self, reports: Sequence[CheckReport]) -> list[OrderResult]:
        """Record what health checks found."""
        return self._order(reports)

    def services(self) -> list[str]:
        """Names of all services that ever had an endpoint, in order."""
        statement = sa.select(service_revisions.c.service).order_by(service_revisions.c.service)
        with self._database.read() as connection:
            return list(connection.execute(statement).scalars())

    def read_services(self, services: Sequence[str]) -> list[ServiceRead]:
        """The present entries of these services at one moment."""
        if not services:
            return []
        one_of = self._database.one_of
        entries = (
            sa.select(service_endpoints)
            .where(one_of(service_endpoints.c.service, services), service_endpoints.c.present == 1)
            .order_by(service_endpoints.c.service, service_endpoints.c.agent_id)
        )
        numbers = sa.select(service_revisions).where(one_of(service_revisions.c.service, services))
        found: dict[str, list[Registration]] = {service: [] for service in services}
        with self._database.read() as connection:
            revisions = {row.service: row.revision for row in connection.execute(numbers)}
            for row in connection.execute(entries):
                registration = _registration(row)
                found[registration.endpoint.service].append(registration)
        return [
            ServiceRead(service, revisions.get(service, 0), tuple(found[service]))
            for service in services
        ]

    def registrations_of(self, agent_ids: Sequence[str]) -> list[Registration]:
        """The present entries of these agents in all services."""
        statement = (
            sa.select(service_endpoints)
            .where(
                self._database.one_of(service_endpoints.c.agent_id, agent_ids),
                service_endpoints.c.present == 1,
            )
            .order_by(service_endpoints.c.agent_id, service_endpoints.c.service)
        )
        with self._database.read() as connection:
            return [_registration(row) for row in connection.execute(statement)]

    def _order(self, orders: Sequence[Order]) -> list[OrderResult]:
        """Judge orders one after another and store what they come to, in one transaction."""
        for order in orders:
            validate_order(order)
        if not orders:
            return []
        dialect = self._database.dialect
        makers = {order.key: order for order in orders if isinstance(order, (Endpoint, Removal))}
        keys = sorted({order.key for order in orders})
        with self._database.write() as connection:
            # The rows are made first, so that two first registrations meet in their locks.
            _MAKE.insert_rows(dialect, connection, [_empty(makers[key]) for key in sorted(makers)])
            rows = _LOCK.rows(dialect, connection, keys=dialect.keys(keys))
            stored = {row[0]: _registration(row) for row in rows if row[7]}
            before = dict(stored)
            results = [_settle(stored, order) for order in orders]
            changed = [key for key in keys if stored.get(key) != before.get(key)]
            if changed:
                _STORE.insert_rows(dialect, connection, [_row(stored[key]) for key in changed])
            seen = {
                stored[key].endpoint.service
                for key in changed
                if is_visible_change(before.get(key), stored[key])
            }
            self._raise_revisions(connection, sorted(seen))
        return results

    def _raise_revisions(self, connection: sa.Connection, services: Iterable[str]) -> None:
        insert = self._database.dialect.insert(service_revisions)
        raised = insert.on_conflict_do_update(
            index_elements=["service"], set_={"revision": service_revisions.c.revision + 1}
        )
        rows = [{"service": service, "revision": 1} for service in services]
        if rows:
            connection.execute(raised, rows)


_MAKE = DriverStatement(
    lambda dialect: dialect.insert(service_endpoints).on_conflict_do_nothing(), _COLUMNS
)
_STORE = DriverStatement(lambda dialect: upsert(dialect, service_endpoints), _COLUMNS)
_LOCK = DriverStatement(
    lambda dialect: (
        sa.select(service_endpoints)
        .where(dialect.one_of(service_endpoints.c.endpoint, sa.bindparam("keys")))
        .order_by(service_endpoints.c.endpoint)  # the same order for everybody: no deadlocks
        .with_for_update()
    )
)


def _settle(stored: dict[str, Registration], order: Order) -> OrderResult:
    try:
        stored[order.key] = settle_order(stored.get(order.key), order)
    except (StaleEpochError, LeaseLostError, NotFoundError) as error:
        return OrderResult(order.key, error)
    return OrderResult(order.key, None)


def _empty(order: Endpoint | Removal) -> tuple[Any, ...]:
    nowhere = Endpoint(order.service, order.agent_id, "", "", "", 0, 0)
    return _row(Registration(nowhere, present=False))


def _row(entry: Registration) -> tuple[Any, ...]:
    return (
        entry.endpoint.key,
        *entry.endpoint,
        entry.renewals,
        entry.connections,
        entry.health.value,
        int(entry.gray),
        entry.reason,
        entry.term,
        int(entry.present),
    )


def _registration(row: Sequence[Any]) -> Registration:
    _, *shape, renewals, connections, health, gray, reason, term, present = row
    return Registration(
        Endpoint(*shape),
        renewals,
        connections,
        CheckHealth(health),
        bool(gray),
        reason,
        term,
        bool(present),
    )
