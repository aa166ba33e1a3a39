"""Quotas and limits of networks in SQL, and the check that keeps them while agents are placed.

The check runs inside the transaction that places: the limits' rows of the networks concerned are
locked until the commit, so that of two placers for one network the second counts what the first
has taken. What it refuses is rolled back as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from fleet.placement.quotas import (
    LimitRange,
    NetworkLimits,
    ResourceQuota,
    ResourceUse,
    require_quota,
    validate_limits,
)
from resources.control_store.database import Database, Feature
from resources.control_store.schema import agents, network_limits, placements


class SqlQuotas(Feature):
    """The part of the control store that knows what networks may use."""

    def declare_network_limits(self, limits: Sequence[NetworkLimits]) -> None:
        """Replace all of them; committed when it returns."""
        rows = {one.network_id: _row(validate_limits(one)) for one in limits}
        with self._database.write() as connection:
            known = sorted(rows)
            gone = ~self._database.one_of(network_limits.c.network_id, known)
            connection.execute(network_limits.delete().where(gone))
            if rows:
                statement = self._database.upsert(network_limits)
                connection.execute(statement, [rows[name] for name in known])

    def network_limits(self) -> list[NetworkLimits]:
        """All of them, ordered by network_id."""
        with self._database.read() as connection:
            return [_limits(row) for row in connection.execute(_ALL)]

    def network_uses(self, network_ids: Sequence[str]) -> dict[str, ResourceUse]:
        """What their placed agents are allocated together."""
        with self._database.read() as connection:
            return _uses(self._database, connection, network_ids)


class QuotaGuard:
    """What is in use before a batch is placed, to be compared with what is in use behind it."""

    def __init__(
        self, database: Database, connection: sa.Connection, network_ids: Iterable[str]
    ) -> None:
        """Lock the limits of these networks until the transaction ends, and count."""
        self._database, self._connection = database, connection
        named = database.one_of(network_limits.c.network_id, sorted(set(network_ids)))
        self._limits = [
            _limits(row) for row in connection.execute(_ALL.where(named).with_for_update())
        ]
        self._names = [one.network_id for one in self._limits if any_bound(one.quota)]
        self._before = _uses(database, connection, self._names)

    def check(self) -> None:
        """Return when no quota was passed by what was placed since.

        Raises:
            QuotaExceededError: one was; the caller's transaction must not be committed.
        """
        after = _uses(self._database, self._connection, self._names)
        for limits in self._limits:
            now = after.get(limits.network_id, ResourceUse())
            had = self._before.get(limits.network_id, ResourceUse())
            asked = ResourceUse(*(new - old for new, old in zip(now, had, strict=True)))
            require_quota(had, asked, limits)


def any_bound(quota: ResourceQuota) -> bool:
    """Whether a quota bounds anything."""
    return any(bound is not None for bound in quota)


_ALL = sa.select(network_limits.c.network_id, network_limits.c.specification_json).order_by(
    network_limits.c.network_id
)


def _uses(
    database: Database, connection: sa.Connection, network_ids: Sequence[str]
) -> dict[str, ResourceUse]:
    if not network_ids:
        return {}
    sums = [
        sa.func.coalesce(sa.func.sum(agents.c[name]), 0)
        for name in ("cpu_milli", "memory_bytes", "gpu_milli")
    ]
    statement = (
        sa.select(agents.c.network_id, sa.func.count(), *sums)
        .select_from(agents.join(placements, placements.c.agent_id == agents.c.agent_id))
        .where(database.one_of(agents.c.network_id, network_ids))
        .where(placements.c.retired == 0, placements.c.node_id != "")
        .group_by(agents.c.network_id)
    )
    return {
        row[0]: ResourceUse(*(int(value) for value in row[1:]))
        for row in connection.execute(statement)
    }


def _row(limits: NetworkLimits) -> dict[str, str]:
    specification = {"quota": limits.quota._asdict(), "limits": limits.limits._asdict()}
    text = json.dumps(specification, separators=(",", ":"), sort_keys=True)
    return {"network_id": limits.network_id, "specification_json": text}


def _limits(row: sa.Row[Any]) -> NetworkLimits:
    fields = json.loads(row.specification_json)
    return NetworkLimits(
        row.network_id, ResourceQuota(**fields["quota"]), LimitRange(**fields["limits"])
    )
