"""A plan with room made in it: what preemption changes among the placements to store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fleet.agents import Placement
from fleet.placement.initial import PlacementTerms, WaitingPlan
from fleet.placement.parking import NO_NODE
from fleet.placement.preemption import (
    PreemptionPolicy,
    Preemptor,
    Running,
    plan_preemptions,
)
from fleet.placement.requests import AMOUNT_MAX, NO_RULES, size_of
from fleet.reports import AgentDeclaration, NodeDeclaration, unplaced

_PREEMPTED = "made room for "


def is_preempted(placed: Placement) -> bool:
    """Whether an agent is where it is because it had to make room."""
    return placed.reason.startswith(_PREEMPTED)


def preempt(
    plan: WaitingPlan,
    agents: Sequence[AgentDeclaration],
    existing: Sequence[Placement],
    nodes: Sequence[NodeDeclaration],
    terms: PlacementTerms,
    policy: PreemptionPolicy,
    *,
    now: datetime,
    term: int,
) -> list[Placement]:
    """The changes of a plan, with room made for agents that lack it and matter more.

    Victims and newcomer are of one batch: what the store refuses of it, it refuses of the node.

    Args:
        plan: as made without preemption.
        agents: all declared agents.
        existing: placements as stored.
        nodes: that may take agents.
        terms: rules of workloads.
        policy: who may preempt, and how many may be moved.
        now: becomes `updated_at`.
        term: of the controller that places.

    Returns:
        The placements to store, ordered by agent_id, one for each agent.
    """
    stored = {one.agent_id: one for one in existing}
    after = stored | {one.agent_id: one for one in plan.changes}
    shapes = {one.agent_id: one for one in agents}
    running = [
        Running(
            one.agent_id,
            one.node_id,
            size_of(shapes[one.agent_id]),
            # Who was stopped keeps its room and is not started elsewhere: it is nobody's victim.
            shapes[one.agent_id].priority if one.desired == "running" else AMOUNT_MAX,
            one.updated_at.timestamp(),
            terms.rules.get(one.workload, NO_RULES),
        )
        for one in after.values()
        if one.node_id and one.agent_id in shapes
    ]
    preemptors = [
        Preemptor(
            one.agent_id,
            one.region,
            size_of(one),
            one.priority,
            terms.rules.get(one.workload, NO_RULES),
        )
        for one in plan.lacking
    ]
    changes = {one.agent_id: one for one in plan.changes}
    for made in plan_preemptions(preemptors, running, nodes, policy):
        newcomer = made.preemptor.agent_id
        moves = [(newcomer, made.node_id, made.reason)]
        moves += [(one.agent_id, home or NO_NODE, "") for one, home in made.victims]
        for agent_id, node_id, reason in moves:
            before = changes.get(agent_id) or stored.get(agent_id) or unplaced(shapes[agent_id])
            said = reason or f"{_PREEMPTED}{newcomer} on {made.node_id}"
            changes[agent_id] = before._replace(
                node_id=node_id,
                term=max(term, before.term),
                desired="running" if node_id else "parked",
                reason=said if node_id else f"{said}; parked: no node of its region has room",
                updated_at=now,
            )
    return [changes[agent_id] for agent_id in sorted(changes)]
