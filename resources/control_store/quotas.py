"""Quotas and limits of networks in SQL, and what is in use of them; counted by the database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from fleet.placement.quotas import (
    LimitRange,
    NetworkLimits,
    ResourceQuota,
    ResourceUse,
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
            return [_limits(*row) for row in connection.execute(_ALL)]

    def network_uses(self, network_ids: Sequence[str]) -> dict[str, ResourceUse]:
        """What their placed agents are allocated together."""
        with self._database.read() as connection:
            return uses_of(self._database, connection, network_ids)


def lock_limits(
    database: Database, connection: sa.Connection, network_ids: Iterable[str]
) -> dict[str, NetworkLimits]:
    """Limits of these networks, kept as they are until the transaction ends."""
    named = database.one_of(network_limits.c.network_id, sorted(set(network_ids)))
    rows = connection.execute(_ALL.where(named).with_for_update())
    return {row.network_id: _limits(*row) for row in rows}


_ALL = sa.select(network_limits.c.network_id, network_limits.c.specification_json).order_by(
    network_limits.c.network_id
)


def uses_of(
    database: Database, connection: sa.Connection, network_ids: Sequence[str]
) -> dict[str, ResourceUse]:
    """What the placed agents of these networks are allocated together."""
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


def _limits(network_id: str, specification_json: str) -> NetworkLimits:
    fields = json.loads(specification_json)
    return NetworkLimits(
        network_id, ResourceQuota(**fields["quota"]), LimitRange(**fields["limits"])
    )
