"""Leases in SQL: one row per name, whose term only ever rises.

One lease or ten thousand: all rows are locked in the order of their names, judged at one moment and
written together (`LockedLeases`), so that two transactions never wait for each other.
Committed where each method returns. The judge of time is the store's clock (PostgreSQL's own; the
host's on SQLite). A clock that jumps back cannot shorten a lease: for the same holder `renewed_at`
and `expires_at` only rise. It can lengthen one by the jump, which delays a takeover and never
allows two holders: a takeover raises the term, and every renewal names its term.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from fleet.errors import InvalidInputError, LeaseLostError
from fleet.leases import Lease
from fleet.ports.control_store import LeaseResult, LeaseWish
from resources.control_store.database import Feature, upsert
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
        (result,) = self.acquire_leases([LeaseWish(name, holder, ttl_s)])
        if result.lease is None:
            assert result.error is not None, "refused without a reason"
            raise result.error
        return result.lease

    def acquire_leases(self, wishes: Sequence[LeaseWish]) -> list[LeaseResult]:
        """Take or renew many leases in one transaction, in order."""
        for wish in wishes:
            validate_lease(*wish)
        if not wishes:
            return []
        dialect, results = self._database.dialect, []
        rows = [_Stored(wish.name, NOBODY, 0, wish.ttl_s, 0, 0) for wish in sorted(wishes)]
        with self._database.write() as connection:
            # The rows are made first, so that two first takers meet in their locks.
            _MAKE.insert_rows(dialect, connection, rows)
            locked = LockedLeases(dialect, connection, (wish.name for wish in wishes))
            for wish in wishes:
                try:
                    results.append(LeaseResult(wish.name, locked.acquire(wish), None))
                except LeaseLostError as error:
                    results.append(LeaseResult(wish.name, None, error))
            locked.store(connection)
        return results

    def renew_lease(self, lease: Lease) -> Lease:
        """Extend one's lease by its ttl; also after its end, when nobody has taken it."""
        with self._database.write() as connection:
            locked = LockedLeases(self._database.dialect, connection, [lease.name])
            renewed = locked.renew(lease)
            locked.store(connection)
        return renewed

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


class LockedLeases:
    """Leases of one transaction: locked, judged at one moment, written together by `store`."""

    def __init__(self, dialect: Dialect, connection: sa.Connection, names: Iterable[str]) -> None:
        """Lock the leases of these names that exist; the clock is read once they are held."""
        self._dialect = dialect
        keys = dialect.keys(sorted(set(names)))
        rows = map(_Stored._make, _SELECT.rows(dialect, connection, keys=keys))
        self._stored = {row.name: row for row in rows}
        self._now = dialect.now_us(connection)
        self._changed: set[str] = set()

    def acquire(self, wish: LeaseWish) -> Lease:
        """Take a lease that was made before, or renew one's own.

        Raises:
            LeaseLostError: somebody else holds it.
        """
        stored = self._stored[wish.name]
        live = stored.holder != NOBODY and self._now < stored.expires_at
        if live and stored.holder != wish.holder:
            raise _lost(_lease(stored), f"{wish.holder} wants it")
        before = stored if stored.holder == wish.holder else None
        return self._keep(wish, stored.term if live else stored.term + 1, before)

    def check(self, lease: Lease) -> _Stored:
        """The row of a lease that is still its holder's.

        Raises:
            LeaseLostError: somebody else has taken it, or it was released.
        """
        stored = self._stored.get(lease.name)
        if stored is None:
            raise LeaseLostError(
                f"lease {lease.name} does not exist", hint="Acquire the lease before renewing it."
            )
        if (stored.holder, stored.term) != (lease.holder, lease.term):
            raise _lost(_lease(stored), f"{lease.holder} wants to renew term {lease.term}")
        return stored

    def renew(self, lease: Lease) -> Lease:
        """Extend a lease.

        Raises:
            LeaseLostError: somebody else has taken it, or it was released.
        """
        stored = self.check(lease)
        wish = LeaseWish(lease.name, lease.holder, lease.ttl_s)
        return self._keep(wish, lease.term, stored)

    def _keep(self, wish: LeaseWish, term: int, before: _Stored | None) -> Lease:
        """The lease from now on, never earlier than what it was renewed to before."""
        renewed_at, expires_at = self._now, self._now + round(wish.ttl_s * 1e6)
        if before is not None:
            renewed_at = max(renewed_at, before.renewed_at)
            expires_at = max(expires_at, before.expires_at)
        kept = _Stored(wish.name, wish.holder, term, wish.ttl_s, renewed_at, expires_at)
        self._stored[wish.name] = kept
        self._changed.add(wish.name)
        return _lease(kept)

    def store(self, connection: sa.Connection) -> None:
        """Write what was taken and renewed."""
        rows = [self._stored[name] for name in sorted(self._changed)]
        if rows:
            _STORE.insert_rows(self._dialect, connection, rows)


_SELECT = DriverStatement(
    lambda dialect: (
        sa.select(leases)
        .where(dialect.one_of(leases.c.name, sa.bindparam("keys")))
        .order_by(leases.c.name)  # the same order for everybody: no deadlocks
        .with_for_update()
    )
)

_MAKE = DriverStatement(
    lambda dialect: dialect.insert(leases).on_conflict_do_nothing(), _Stored._fields
)

_STORE = DriverStatement(lambda dialect: upsert(dialect, leases), _Stored._fields)


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
