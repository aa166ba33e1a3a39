"""Placing the agents that wait: plan, compare-and-swap, and a new plan for those that lost.

Each round reads the store, plans on what it has read, and swaps. What somebody else has placed,
retired or used up in between is refused by the store and planned anew on the next reading. One
round is one transaction: a crash leaves whole rounds, and the next call goes on from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.agents import Placement
from fleet.failover.policy import FailoverPolicy
from fleet.placement.initial import PlacementTerms, WaitingPlan, plan_waiting
from fleet.placement.preempting import is_preempted, preempt
from fleet.placement.preemption import PreemptionPolicy
from fleet.placement.queue import LifecycleQueue
from fleet.placement.requests import NO_RULES, rules_of
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, NodeDeclaration, declaration_of, node_declaration_of

ROUNDS_MAX = 4
"""Plans made of one call. Each round loses only to others who have placed something meanwhile."""


class PlacementOutcome(NamedTuple):
    """What has become of the agents that waited."""

    placed: list[Placement]
    """Stored on a node, with their new epochs."""
    parked: list[Placement]
    """Stored on none, each with the reason; who was parked already is not repeated."""
    lost: int
    """Planned, and refused by the store in the last round too: the next call tries again."""
    rounds: int
    """Plans that were made."""


def place_waiting(
    store: ControlStore,
    nodes_alive: Collection[str],
    *,
    now: datetime,
    term: int,
    limit: int | None = None,
    leader_term: int | None = None,
    left_nodes: Collection[str] = (),
    declared: Sequence[AgentDeclaration] | None = None,
) -> PlacementOutcome:
    """Place agents that have no node, the most important first, and say what has become of them.

    Agents wait when they were never placed, have been wanted again after they had given their room
    back, or are parked for lack of room, of quota or of their gang. Who is wanted again goes where
    it was, if there is room. What stopped agents give back is taken first. Rules of workloads and
    limits of networks are the store's. Idempotent: a second call finds nobody waiting whom it could
    place.

    Args:
        store: the control store.
        nodes_alive: nodes that may take agents; others keep theirs. An agent whose node is not
            declared any more waits, too.
        now: stamps the placements.
        term: under which to place; below the one that an agent was last placed under, it is
            raised to that.
        limit: at most so many agents get a node in one call, by priority, which rises with the
            time waited; a gang comes whole, alone if it is bigger. None: all.
        leader_term: place as the leader of this term; then it must be `term`.
        left_nodes: nodes about to be retired: their agents wait, too.
        declared: all agents with their homes; None reads them from the store, where an agent is at
            home in the region in which it is placed or parked.

    Raises:
        LeaseLostError: `leader_term` does not lead; what earlier rounds stored stays.
        StoreUnavailableError: the store cannot be reached; the same holds.
    """
    store.release_ended()
    placed: list[Placement] = []
    parked: list[Placement] = []
    only: Collection[str] | None = None
    lost = 0
    for number in range(1, ROUNDS_MAX + 1):
        reading = _read(store, frozenset(nodes_alive), frozenset(left_nodes), declared)
        plan = plan_waiting(
            reading.agents,
            reading.open_nodes,
            reading.placements,
            now=now,
            term=term,
            terms=reading.terms,
            only=only,
            closed_nodes=reading.closed_nodes,
            last_nodes=reading.last_nodes,
        )
        if only is None and limit is not None:
            plan = _most_important(plan, reading, now, limit)
        planned = _with_preemptions(plan, reading, now, term)
        if not planned:
            return PlacementOutcome(placed, parked, 0, number)
        stored = store.place_agents(planned, leader_term=leader_term, within_limits=True)
        for one in stored:
            (placed if one.node_id else parked).append(one)
        only = {one.agent_id for one in planned} - {one.agent_id for one in stored}
        lost = len(only)
        if not only:
            break
    return PlacementOutcome(placed, parked, lost, number)


def _with_preemptions(
    plan: WaitingPlan, reading: _Reading, now: datetime, term: int
) -> list[Placement]:
    """The plan's changes, and room made for those that matter more than others."""
    normal = PreemptionPolicy().above_priority
    if all(agent.priority <= normal for agent in plan.lacking):
        return plan.changes
    policy = FailoverPolicy()
    since = now - timedelta(seconds=policy.blast_window_s)
    moved = sum(one.updated_at > since and is_preempted(one) for one in reading.placements)
    left = max(0, int(policy.blast_fraction * len(reading.placements)) - moved)
    return preempt(
        plan,
        reading.agents,
        reading.placements,
        reading.open_nodes,
        reading.terms,
        PreemptionPolicy(victims_max=left),
        now=now,
        term=term,
    )


def read_terms(store: ControlStore) -> PlacementTerms:
    """What the store says of workloads and networks."""
    rules = {one.workload: rules_of(one) for one in store.workloads()}
    return PlacementTerms(rules, store.network_limits())


class _Reading(NamedTuple):
    """One look at the store."""

    agents: Sequence[AgentDeclaration]
    open_nodes: list[NodeDeclaration]
    closed_nodes: frozenset[str]
    placements: list[Placement]
    terms: PlacementTerms
    last_nodes: Mapping[str, str]
    """Of agents that are wanted again."""


def _read(
    store: ControlStore,
    alive: Collection[str],
    left: Collection[str],
    declared: Sequence[AgentDeclaration] | None,
) -> _Reading:
    nodes = [node for node in store.nodes() if node.node_id not in left]
    # Placements before agents: an agent that is placed in between looks unplaced, its swap is
    # refused, and the next round sees it.
    placements = store.placements()
    back = [one.agent_id for one in placements if one.desired == "running" and not one.node_id]
    if declared is None:
        declared = [declaration_of(agent) for agent in store.agents()]
    return _Reading(
        agents=declared,
        open_nodes=[node_declaration_of(node) for node in nodes if node.node_id in alive],
        closed_nodes=frozenset(node.node_id for node in nodes if node.node_id not in alive),
        placements=placements,
        terms=read_terms(store),
        last_nodes=store.last_nodes(back) if back else {},
    )


def _most_important(plan: WaitingPlan, reading: _Reading, now: datetime, limit: int) -> WaitingPlan:
    """The plan with at most so many agents that get a node, gangs whole; parkings all stay.

    Chosen among those who have a place, so that who fits nowhere holds nobody up.
    """
    stored = {one.agent_id: one for one in reading.placements}
    priorities = {one.agent_id: one.priority for one in reading.agents}
    gangs = defaultdict[tuple[str, ...], list[Placement]](list)
    queue = LifecycleQueue()
    for one in plan.changes:
        if one.node_id:
            gang = reading.terms.rules.get(one.workload, NO_RULES).gang
            gangs[(one.network_id, one.region, gang) if gang else (one.agent_id,)].append(one)
            since = stored[one.agent_id].updated_at if one.agent_id in stored else now
            queue.put(one.agent_id, priorities[one.agent_id], since.timestamp())
    group_of = {one.agent_id: group for group, members in gangs.items() for one in members}
    chosen: dict[str, Placement] = {}
    for waiting in queue.take(now.timestamp(), len(group_of)):
        group = gangs[group_of[waiting.agent_id]]
        if len(chosen) + len(group) <= limit or not chosen:
            chosen |= {one.agent_id: one for one in group}
        if len(chosen) >= limit:
            break
    kept = [one for one in plan.changes if not one.node_id or one.agent_id in chosen]
    return plan._replace(changes=kept)
