"""Who may move agents, checked where it counts: inside the transaction that moves them.

The leader lease's row is locked against a takeover until the commit and judged by the store's own
clock, so that no order is stored under a term that another one has followed or whose time is over,
however long its sender was paused between its own look and this one.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from fleet.errors import LeaseLostError
from fleet.leases import LEADER_LEASE, is_fence, node_lease_name
from resources.control_store.database import Feature
from resources.control_store.dialects import Dialect
from resources.control_store.driver_sql import DriverStatement
from resources.control_store.leases import NOBODY
from resources.control_store.schema import leases
from resources.control_store.times import from_us


class SqlLeadership(Feature):
    """The leader's part of the control store."""

    def demand_leader_term(self, term: int) -> None:
        """Return when `term` leads at this moment."""
        with self._database.read() as connection:
            look_for_leader_term(self._database.dialect, connection, term)

    def fence_nodes(self, node_ids: Sequence[str], leader_term: int) -> list[str]:
        """End the leases of nodes that have run out; committed when this returns."""
        dialect, names = self._database.dialect, [node_lease_name(one) for one in node_ids]
        fence = f"fenced under leader term {leader_term}"
        with self._database.write() as connection:
            now = hold_leader_term(dialect, connection, leader_term)
            # Renewals meet us in the rows' locks: each comes before and is counted, or is refused.
            keys = dialect.keys(sorted(set(names)))
            ended = [
                (name, holder)
                for name, holder, expires_at in _NODE_LEASES.rows(dialect, connection, keys=keys)
                if holder == NOBODY or expires_at <= now
            ]
            held = [name for name, holder in ended if not is_fence(holder) and holder != NOBODY]
            if held:
                connection.execute(
                    leases.update()
                    .where(self._database.one_of(leases.c.name, held))
                    .values(holder=fence, term=leases.c.term + 1)
                )
        return sorted(name.removeprefix(node_lease_name("")) for name, _ in ended)


def hold_leader_term(
    dialect: Dialect, connection: sa.Connection, term: int, lease: str = LEADER_LEASE
) -> int:
    """Keep `term` leading until this transaction ends; returns the store's time, microseconds.

    Args:
        dialect: of the database.
        connection: in a transaction that writes.
        term: that is to lead.
        lease: what its holder leads: the failover, or something else that has a leader of its own.

    Raises:
        LeaseLostError: it does not lead.
    """
    rows = _LEADER.rows(dialect, connection, name=lease)
    now = dialect.now_us(connection)  # after the lock was had: whoever held it has decided
    _judge(rows[0] if rows else None, term, now)
    return now


def look_for_leader_term(
    dialect: Dialect, connection: sa.Connection, term: int, lease: str = LEADER_LEASE
) -> None:
    """Return when `term` leads at this moment; nothing keeps it leading.

    Raises:
        LeaseLostError: it does not lead.
    """
    found = connection.execute(
        sa.select(leases.c.holder, leases.c.term, leases.c.expires_at).where(leases.c.name == lease)
    ).one_or_none()
    _judge(None if found is None else tuple(found), term, dialect.now_us(connection))


def _judge(row: tuple[str, int, int] | None, term: int, now: int) -> None:
    hint = "Stop acting; campaign for the lease again, and plan anew under the term that it gives."
    if row is None:
        raise LeaseLostError(f"leader term {term}: nobody has ever led this fleet", hint=hint)
    holder, current, expires_at = row
    if holder != NOBODY and current == term and now < expires_at:
        return
    if current != term:
        what = f"term {current} has followed, held by {holder or 'nobody (released)'}"
    elif holder == NOBODY:
        what = "its lease was released"
    else:
        late_s = (now - expires_at) / 1e6
        what = f"its lease ran out at {from_us(expires_at).isoformat()}, {late_s:.3f} s ago"
    raise LeaseLostError(f"leader term {term} leads no more: {what}", hint=hint)


_LEADER = DriverStatement(
    lambda _: (
        sa.select(leases.c.holder, leases.c.term, leases.c.expires_at)
        .where(leases.c.name == sa.bindparam("name"))
        .with_for_update(read=True)
    )
)

_NODE_LEASES = DriverStatement(
    lambda dialect: (
        sa.select(leases.c.name, leases.c.holder, leases.c.expires_at)
        .where(dialect.one_of(leases.c.name, sa.bindparam("keys")))
        .order_by(leases.c.name)
        .with_for_update()
    )
)
