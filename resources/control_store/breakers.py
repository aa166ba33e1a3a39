"""Reports of circuit breakers in SQL: one row per (name, holder), dated by the store's clock."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from fleet.circuit_breaker import BreakerPhase, BreakerStatus
from fleet.names import validate_text
from resources.control_store.database import Feature
from resources.control_store.schema import circuit_breakers
from resources.control_store.times import from_us, to_us

_KEEP_US = 86_400_000_000
"""Reports of processes that are gone are removed after a day."""


class SqlBreakers(Feature):
    """The part of the control store that knows the breakers of all processes."""

    def report_breakers(self, statuses: Sequence[BreakerStatus]) -> None:
        """Replace what is known of these breakers; committed when it returns."""
        for status in statuses:
            validate_text("breaker.reason", status.reason)
        rows = {(status.name, status.holder): status for status in statuses}
        if not rows:
            return
        with self._database.write() as connection:
            now = self._database.dialect.now_us(connection)
            connection.execute(
                self._database.upsert(circuit_breakers),
                [
                    status._asdict() | {"changed_at": to_us(status.changed_at), "reported_at": now}
                    for _, status in sorted(rows.items())
                ],
            )
            connection.execute(
                circuit_breakers.delete().where(circuit_breakers.c.reported_at < now - _KEEP_US)
            )

    def breakers(self, reported_within_s: float = 900.0) -> list[BreakerStatus]:
        """Breakers reported lately, ordered by (name, holder)."""
        columns = [circuit_breakers.c[name] for name in BreakerStatus._fields]
        statement = sa.select(*columns).order_by(*columns[:2])
        with self._database.read() as connection:
            since = self._database.dialect.now_us(connection) - round(reported_within_s * 1e6)
            rows = connection.execute(statement.where(circuit_breakers.c.reported_at >= since))
            return [
                BreakerStatus(
                    row.name,
                    row.holder,
                    BreakerPhase(row.phase),
                    row.failures,
                    row.reason,
                    from_us(row.changed_at),
                )
                for row in rows
            ]
