"""Leases in SQL: one row per name, whose term only ever rises.

Committed where each method returns. The judge of time is the store's clock (PostgreSQL's own; the
host's on SQLite). A clock that jumps back cannot shorten a lease: for the same holder `renewed_at`
and `expires_at` only rise. It can lengthen one by the jump, which delays a takeover and never
allows two holders: a takeover raises the term, and every renewal names its term.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from fleet.errors import InvalidInputError, LeaseLostError
from fleet.leases import Lease
from resources.control_store.database import Feature
from resources.control_store.dialects import Dialect
from resources.control_store.driver_sql import DriverStatement
from resources.control_store.schema import leases
from resources.control_store.times import from_us

NOBODY = ""
"""Holder of a released lease; the row stays, because the term must not start again."""

TTL_MAX_S = 366 * 86400.0
"""Longest time to live, in seconds; anything longer is a mistake of units."""


class SqlLeases(Feature):
    """The lease part of the control store."""

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        """Take a free or expired lease (term + 1), or renew one's own live one (same term)."""
        validate_lease(name, holder, ttl_s)
        with self._database.write() as connection:
            # The row is made first, so that two first takers meet in its lock.
            connection.execute(
                self._database.insert_new(leases),
                {
                    "name": name,
                    "holder": NOBODY,
                    "term": 0,
                    "ttl_s": ttl_s,
                    "renewed_at": 0,
                    "expires_at": 0,
                },
            )
            dialect = self._database.dialect
            stored = _stored(dialect, connection, name)
            now = dialect.now_us(connection)
            assert stored is not None, "just made"
            live = stored.holder != NOBODY and now < stored.expires_at
            if live and stored.holder != holder:
                raise _lost(_lease(stored), f"{holder} wants it")
            term = stored.term if live else stored.term + 1
            wanted = Lease(name, holder, term, ttl_s, from_us(now), from_us(now))
            if stored.holder != holder:
                return _store(dialect, connection, wanted, now, 0, 0)
            return _store(dialect, connection, wanted, now, stored.renewed_at, stored.expires_at)

    def renew_lease(self, lease: Lease) -> Lease:
        """Extend one's lease by its ttl; also after its end, when nobody has taken it."""
        with self._database.write() as connection:
            return renew(self._database.dialect, connection, lease)

    def release_lease(self, lease: Lease) -> None:
        """Give the lease up; nothing happens when it is not held any more."""
        with self._database.write() as connection:
            connection.execute(
                leases.update()
                .where(
                    leases.c.name == lease.name,
                    leases.c.holder == lease.holder,
                    leases.c.term == lease.term,
                )
                .values(holder=NOBODY, expires_at=leases.c.renewed_at)
            )

    def lease(self, name: str) -> Lease | None:
        """The lease as stored, also when it has expired; None when it never existed."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(leases).where(leases.c.name == name)).one_or_none()
        return None if row is None else _lease(row)


def renew(dialect: Dialect, connection: sa.Connection, lease: Lease) -> Lease:
    """Extend a lease inside a transaction of the caller's.

    Raises:
        LeaseLostError: somebody else has taken it, or it was released.
    """
    stored = _stored(dialect, connection, lease.name)
    if stored is None:
        raise LeaseLostError(
            f"lease {lease.name} does not exist", hint="Acquire the lease before renewing it."
        )
    if (stored.holder, stored.term) != (lease.holder, lease.term):
        raise _lost(_lease(stored), f"{lease.holder} wants to renew term {lease.term}")
    now = dialect.now_us(connection)
    return _store(dialect, connection, lease, now, stored.renewed_at, stored.expires_at)


def validate_lease(name: str, holder: str, ttl_s: float) -> None:
    """Refuse a lease without name, holder or a sensible time to live.

    Raises:
        InvalidInputError: names the field.
    """
    if not name:
        raise InvalidInputError("lease name", name, "a text that is not empty")
    if not holder:
        raise InvalidInputError("lease holder", holder, "a text that is not empty")
    if not 0.0 < ttl_s <= TTL_MAX_S:
        raise InvalidInputError("ttl_s", ttl_s, f"seconds above 0, at most {TTL_MAX_S:g}")


class _Stored(NamedTuple):
    """A lease's row; times in microseconds."""

    name: str
    holder: str
    term: int
    ttl_s: float
    renewed_at: int
    expires_at: int


def _stored(dialect: Dialect, connection: sa.Connection, name: str) -> _Stored | None:
    """The row, locked until the end of the transaction."""
    rows = _SELECT.rows(dialect, connection, name=name)
    return _Stored._make(rows[0]) if rows else None


def _store(
    dialect: Dialect,
    connection: sa.Connection,
    lease: Lease,
    now: int,
    renewed_at: int,
    expires_at: int,
) -> Lease:
    """Write the lease from `now` on, never earlier than what it was renewed to before."""
    renewed_at = max(now, renewed_at)
    expires_at = max(now + round(lease.ttl_s * 1e6), expires_at)
    _UPDATE.run(
        dialect,
        connection,
        lease_name=lease.name,
        holder=lease.holder,
        term=lease.term,
        ttl_s=lease.ttl_s,
        renewed_at=renewed_at,
        expires_at=expires_at,
    )
    return lease._replace(renewed_at=from_us(renewed_at), expires_at=from_us(expires_at))


_SELECT = DriverStatement(
    lambda _: sa.select(leases).where(leases.c.name == sa.bindparam("name")).with_for_update()
)

_UPDATE = DriverStatement(
    lambda _: (
        leases.update()
        .where(leases.c.name == sa.bindparam("lease_name"))
        .values({name: sa.bindparam(name) for name in _Stored._fields[1:]})
    )
)


def _lease(row: _Stored | sa.Row[Any]) -> Lease:
    return Lease(
        row.name,
        row.holder,
        row.term,
        row.ttl_s,
        from_us(row.renewed_at),
        from_us(row.expires_at),
    )


def _lost(held: Lease, wish: str) -> LeaseLostError:
    holder = held.holder or "nobody (released)"
    return LeaseLostError(
        f"lease {held.name} is held by {holder}, term {held.term}, "
        f"until {held.expires_at.isoformat()}; {wish}",
        hint="Stop acting under this lease; acquire it again once it is free.",
    )
