"""Agents that come back go where they were, as far as there is room: their caches are there.

Only who waits gets a place this way, and nobody gets one before a more important agent that waits
in the same region or draws on the same quota: the plan decides about both. Gangs come together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from fleet.placement.node_pool import NodePool
from fleet.placement.quotas import QuotaLedger, check_limits
from fleet.placement.requests import NO_RULES, PlacementRules, size_of
from fleet.reports import AgentDeclaration


class SentBack(NamedTuple):
    """An agent that goes where it was."""

    agent: AgentDeclaration
    node_id: str

    @property
    def reason(self) -> str:
        """For its row."""
        return f"back on {self.node_id}, where it was"


def send_back(
    waiting: Iterable[Sequence[AgentDeclaration]],
    last_nodes: Mapping[str, str],
    pools: Mapping[str, NodePool],
    quotas: QuotaLedger,
    rules: Mapping[str, PlacementRules],
) -> list[SentBack]:
    """Place those that have room where they were.

    Args:
        waiting: agents that wait, like ones together; none of them empty.
        last_nodes: agent -> node that it had last; absent: it goes anywhere.
        pools: what is left by region; taken from.
        quotas: what is left of them; taken from.
        rules: by workload.

    Returns:
        In the order of priority, then of `waiting`.
    """
    if not last_nodes:
        return []
    sent: list[SentBack] = []
    contested: set[tuple[str, str]] = set()
    by_priority = sorted(waiting, key=lambda agents: -agents[0].priority)
    for _, level in groupby(by_priority, key=lambda agents: agents[0].priority):
        left: set[tuple[str, str]] = set()
        for agents in level:
            claims = {("region", agents[0].region), ("network", agents[0].network_id)}
            rule = rules.get(agents[0].workload, NO_RULES)
            found: list[SentBack] = []
            if not rule.gang and not claims & contested:
                found = _send_class(agents, last_nodes, pools, quotas, rule)
            sent += found
            if len(found) < len(agents):
                left |= claims
        contested |= left
    return sent


def _send_class(
    agents: Sequence[AgentDeclaration],
    last_nodes: Mapping[str, str],
    pools: Mapping[str, NodePool],
    quotas: QuotaLedger,
    rules: PlacementRules,
) -> list[SentBack]:
    """Those of like agents that fit where they were."""
    one = agents[0]
    pool = pools.get(one.region)
    if pool is None or check_limits(one, quotas.limits_of(one.network_id)):
        return []
    here = [agent for agent in agents if last_nodes.get(agent.agent_id) in pool.rows]
    if not here:
        return []
    room = pool.fits(size_of(one), rules)
    found: list[SentBack] = []
    counts: dict[int, int] = {}
    for agent in here[: quotas.allowed(one, len(here))]:
        row = pool.rows[last_nodes[agent.agent_id]]
        if counts.get(row, 0) < room[row]:
            counts[row] = counts.get(row, 0) + 1
            found.append(SentBack(agent, last_nodes[agent.agent_id]))
    if found:
        rows = np.fromiter(counts, np.int64, len(counts))
        pool.take(rows, np.fromiter(counts.values(), np.int64, len(counts)), size_of(one))
        quotas.take(one, len(found))
    return found
