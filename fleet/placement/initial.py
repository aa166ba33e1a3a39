"""Where agents are placed that have no node yet: at the start of a fleet, and when it grows.

Every agent has a home region; no agent is placed outside of it. What is placed stays placed, also
where a failover has put it abroad, so that a second start of the same fleet moves nothing. An
agent that fits nowhere, or that its network's quota does not allow, is parked with the reason,
which an operator reads in its row, instead of being squeezed onto a full node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np

from fleet.agents import Placement
from fleet.placement.homecoming import SentBack, send_back
from fleet.placement.node_pool import NodePool, pools_of, take_present
from fleet.placement.parking import NO_NODE, waits
from fleet.placement.planning import (
    PlacementProblem,
    PlannedRequest,
    Present,
    plan_placements,
)
from fleet.placement.quotas import NetworkLimits, QuotaLedger, ResourceUse
from fleet.placement.requests import NO_RULES, AgentSize, PlacementRequest, PlacementRules, size_of
from fleet.reports import AgentDeclaration, NodeDeclaration


class PlacementTerms(NamedTuple):
    """What a plan has to keep to, beside room."""

    rules: Mapping[str, PlacementRules] = {}
    """By workload."""
    limits: Sequence[NetworkLimits] = ()


NO_TERMS = PlacementTerms()


class WaitingPlan(NamedTuple):
    """What is done about the agents that wait for a node."""

    changes: list[Placement]
    """Only the placements to store, ordered by agent_id, each with the epoch it was planned on."""
    lacking: list[AgentDeclaration]
    """Agents for which no node has room, whether or not they are parked already; no gangs."""


def plan_initial_placements(
    agents: Sequence[AgentDeclaration],
    nodes: Sequence[NodeDeclaration],
    existing: Iterable[Placement],
    *,
    now: datetime,
    term: int = 0,
    terms: PlacementTerms = NO_TERMS,
    only: Collection[str] | None = None,
    closed_nodes: Collection[str] = (),
) -> list[Placement]:
    """The changes that `plan_waiting` plans."""
    plan = plan_waiting(
        agents,
        nodes,
        existing,
        now=now,
        term=term,
        terms=terms,
        only=only,
        closed_nodes=closed_nodes,
    )
    return plan.changes


def plan_waiting(
    agents: Sequence[AgentDeclaration],
    nodes: Sequence[NodeDeclaration],
    existing: Iterable[Placement],
    *,
    now: datetime,
    term: int = 0,
    terms: PlacementTerms = NO_TERMS,
    only: Collection[str] | None = None,
    closed_nodes: Collection[str] = (),
    last_nodes: Mapping[str, str] | None = None,
) -> WaitingPlan:
    """Place the agents that have no node yet, within each node's capacity and each quota.

    An existing placement stays while its node is declared; one that is parked for lack of room or
    of leave is tried again, whoever parked it. One that is parked for a crash loop, or because its
    state cannot be had, stays so: room is not what it waits for. A stored term is kept, for terms
    never fall. See `fleet.placement.planning` for who goes where.

    Args:
        agents: all declared agents.
        nodes: that may take agents; an agent on a node that is neither here nor closed is placed
            anew.
        existing: placements as stored, of any agents.
        now: becomes `updated_at`.
        term: of the controller that places.
        terms: rules of workloads, quotas of networks.
        only: agents to place now; None: all that wait. The others wait on.
        closed_nodes: nodes that keep their agents and take no more.
        last_nodes: node that an agent goes back to where there is room, because its caches are
            there (`fleet.placement.homecoming`); None: nobody goes back.

    Returns:
        The placements to store, none when nothing has to change, and who lacks room.
    """
    stored = {placement.agent_id: placement for placement in existing}
    fleet = _Fleet(pools_of(nodes), terms)
    closed = frozenset(closed_nodes)
    for agent in sorted(agents):
        placed = stored.get(agent.agent_id)
        settled = placed is not None and fleet.keep(agent, placed, closed)
        if not settled and (only is None or agent.agent_id in only):
            fleet.wait(agent)
    plan = WaitingPlan([], [])
    for back in fleet.send_back(last_nodes or {}):
        before = stored.get(back.agent.agent_id)
        plan.changes.append(_placed(back.agent, back.node_id, before, back.reason, now, term))
    for done in fleet.plan():
        waiting = fleet.waiting[done.request]
        pool = fleet.pools.get(done.request.region)
        targets = [] if pool is None else [pool.nodes[row].node_id for row in done.rows.tolist()]
        targets += [NO_NODE] * done.left
        for agent, node_id in zip(waiting, targets, strict=True):
            placement = _placement(agent, node_id, stored.get(agent.agent_id), done, now, term)
            if placement is not None:
                plan.changes.append(placement)
        if done.lacks_room and not done.request.rules.gang:
            plan.lacking.extend(waiting[len(done.rows) :])
    return plan._replace(changes=sorted(plan.changes))


class _Fleet:
    """Declared agents, sorted into those that have a node and those that wait."""

    def __init__(self, pools: Mapping[str, NodePool], terms: PlacementTerms) -> None:
        self.pools = pools
        self.waiting: dict[PlacementRequest, list[AgentDeclaration]] = {}
        self._terms = terms
        self._at = {node_id: pool for pool in pools.values() for node_id in pool.rows}
        self._limited = {one.network_id for one in terms.limits}
        self._used: dict[str, ResourceUse] = defaultdict(ResourceUse)
        self._quotas = QuotaLedger((), {})
        """Of the networks, once all that is settled has been counted."""
        self._taken: dict[tuple[str, AgentSize], dict[int, int]] = defaultdict(_counts)
        self._present: dict[tuple[str, str], dict[int, int]] = defaultdict(_counts)
        self._waiting: dict[tuple[object, ...], list[AgentDeclaration]] = defaultdict(list)

    def keep(self, agent: AgentDeclaration, placed: Placement, closed: Collection[str]) -> bool:
        """Count what a settled agent has; False when it waits for a node."""
        pool = self._at.get(placed.node_id)
        if pool is None and placed.node_id not in closed:
            return not waits(placed, closed)
        if pool is not None:
            row = pool.rows[placed.node_id]
            self._taken[pool.region, size_of(agent)][row] += 1
            self._present[pool.region, agent.workload][row] += 1
        if agent.network_id in self._limited:
            self._used[agent.network_id] = self._used[agent.network_id].plus(agent)
        return True

    def wait(self, agent: AgentDeclaration) -> None:
        """Place this one."""
        self._waiting[agent[1:]].append(agent)

    def send_back(self, last_nodes: Mapping[str, str]) -> list[SentBack]:
        """Place those that have room where they were; they wait no more."""
        take_present(self.pools, self._taken)
        self._quotas = QuotaLedger(self._terms.limits, self._used)
        rules = self._terms.rules
        sent = send_back(self._waiting.values(), last_nodes, self.pools, self._quotas, rules)
        placed = {one.agent.agent_id for one in sent}
        for shape in {one.agent[1:] for one in sent}:
            left = [agent for agent in self._waiting[shape] if agent.agent_id not in placed]
            self._waiting[shape] = left
            if not left:
                del self._waiting[shape]
        for one in sent:
            row = self.pools[one.agent.region].rows[one.node_id]
            self._present[one.agent.region, one.agent.workload][row] += 1
        return sent

    def plan(self) -> list[PlannedRequest]:
        """Plan for all that wait (still)."""
        for number, shape in enumerate(sorted(self._waiting)):
            agents = self._waiting[shape]
            self.waiting[self._request(f"{number:06d}", agents)] = agents
        present = {
            key: Present(
                np.fromiter(rows, np.int64, len(rows)),
                np.fromiter(rows.values(), np.int64, len(rows)),
            )
            for key, rows in self._present.items()
        }
        problem = PlacementProblem(self.pools, self._quotas, present)
        return plan_placements(self.waiting, problem)

    def _request(self, name: str, agents: Sequence[AgentDeclaration]) -> PlacementRequest:
        one = agents[0]
        return PlacementRequest(
            name=name,
            region=one.region,
            size=size_of(one),
            agents=len(agents),
            priority=one.priority,
            rules=self._terms.rules.get(one.workload, NO_RULES),
            network_id=one.network_id,
            workload=one.workload,
        )


def _counts() -> dict[int, int]:
    return defaultdict(int)


def _placement(
    agent: AgentDeclaration,
    node_id: str,
    stored: Placement | None,
    done: PlannedRequest,
    now: datetime,
    term: int,
) -> Placement | None:
    """The placement to store; None when it is parked already."""
    if node_id == NO_NODE and stored is not None and stored.desired == "parked":
        return None
    reason = done.reason if node_id else f"parked: {done.refusal}"
    return _placed(agent, node_id, stored, reason, now, term)


def _placed(
    agent: AgentDeclaration,
    node_id: str,
    stored: Placement | None,
    reason: str,
    now: datetime,
    term: int,
) -> Placement:
    return Placement(
        agent_id=agent.agent_id,
        network_id=agent.network_id,
        workload=agent.workload,
        node_id=node_id,
        region=agent.region,
        epoch=0 if stored is None else stored.epoch,
        term=term if stored is None else max(term, stored.term),
        desired="running" if node_id else "parked",
        reason=reason,
        updated_at=now,
    )
