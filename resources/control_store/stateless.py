"""Agents that may run twice for a while, in SQL: declared so, without a state, without a lease."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from resources.control_store.database import Feature
from resources.control_store.schema import agent_states, leases, placements, workloads


class SqlStateless(Feature):
    """The part of the control store that knows who needs no fence."""

    def stateless_counts(self, node_ids: Sequence[str]) -> dict[str, int]:
        """Counts by node, without zeros."""
        node_id = placements.c.node_id
        wanted = sa.select(node_id, sa.func.count()).group_by(node_id)
        return {row[0]: row[1] for row in self._of(wanted, node_ids)}

    def stateless_agents(self, node_ids: Sequence[str]) -> list[str]:
        """Names, sorted."""
        name = placements.c.agent_id
        return [row[0] for row in self._of(sa.select(name).order_by(name), node_ids)]

    def _of(self, wanted: sa.Select[Any], node_ids: Sequence[str]) -> Sequence[Any]:
        """Rows of `wanted` over such agents of these nodes; no query where none is declared so."""
        one_of = self._database.one_of
        with self._database.read() as connection:
            declared = connection.execute(_WORKLOADS).all()
            names = [name for name, text in declared if json.loads(text).get("stateless") is True]
            if not names or not node_ids:
                return []
            statement = (
                wanted.select_from(placements)
                .where(one_of(placements.c.node_id, node_ids), one_of(placements.c.workload, names))
                .where(placements.c.retired == 0, placements.c.desired == "running", _FREE)
            )
            return connection.execute(statement).all()


_WORKLOADS = sa.select(workloads.c.workload, workloads.c.specification_json)

_FREE = sa.and_(
    ~sa.exists().where(agent_states.c.agent_id == placements.c.agent_id),
    placements.c.agent_id.not_in(sa.select(leases.c.holder)),
)
"""Holds neither a state nor a lease on anything, whoever it may be that lets agents have leases."""
