"""Fencing, moving and evacuating: what the marks ask for, and what the limits leave of it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from fleet.failover.draft import Draft
from fleet.failover.incident_steps import verdict_rule
from fleet.failover.limits import Limit, MoveBudget, evacuation_limit, move_limit
from fleet.failover.reasons import death_reasons
from fleet.failover.records import (
    Action,
    ActionKind,
    MoveNote,
    NodeMark,
    NodeState,
    Rule,
)


class Wish(NamedTuple):
    """An action that a mark asks for."""

    action: Action
    region: str


def node_wishes(draft: Draft) -> list[Wish]:
    """Fences and moves that marks ask for, the longest suspected first.

    Nodes of a region that is wholly lost ask for nothing by themselves, unless ordered by force.
    """
    wishes = []
    marks = sorted(draft.nodes.values(), key=lambda mark: (mark.suspect_s, mark.node_id))
    for mark in marks:
        if mark.state not in {NodeState.CONFIRMED, NodeState.FENCED}:
            continue
        region = draft.facts[mark.node_id].region
        if draft.is_full(region) and not draft.is_ordered(mark.node_id, region):
            continue
        action = _node_action(draft, mark)
        if action is not None and _is_single(draft, action, region):
            wishes.append(Wish(action, region))
    return wishes


def _is_single(draft: Draft, action: Action, region: str) -> bool:
    """Whether a node may ask for itself; of a region that is given up by order, only fences."""
    if not draft.is_full(region) or draft.is_forced(action.subject):
        return True
    return action.kind is ActionKind.FENCE_NODE and draft.is_forced(f"region/{region}")


def _is_due(draft: Draft, mark: NodeMark) -> bool:
    """A move is asked for at once, and again when its agents are still in place much later."""
    return mark.moved_s is None or draft.now_s - mark.moved_s >= draft.policy.move_retry_s


def _node_action(draft: Draft, mark: NodeMark) -> Action | None:
    facts = draft.facts[mark.node_id]
    action = Action(
        kind=ActionKind.MOVE_NODE,
        subject=f"node/{mark.node_id}",
        rule=verdict_rule(mark),
        reasons=death_reasons(facts, draft.policy),
        incident=mark.incident,
        term=draft.term,
        nodes=(mark.node_id,),
        agents=facts.agents,
        attempt=mark.attempts + 1,
    )
    if mark.state is NodeState.FENCED:
        return action if facts.agents > 0 and _is_due(draft, mark) else None
    if facts.agents_stateless > 0 and not mark.stateless_moved and draft.keeps(Rule.STATELESS):
        return replace(
            action, rule=Rule.STATELESS, agents=facts.agents_stateless, stateless_only=True
        )
    if facts.agents == 0 or ("fence" in mark.told and not _is_fence_due(draft, mark)):
        return None
    # Only what a person ordered is carried out by a run: each of its runs has a number of its own.
    attempt = action.attempt if draft.is_ordered(mark.node_id, facts.region) else 1
    return replace(action, kind=ActionKind.FENCE_NODE, rule=Rule.FENCING, attempt=attempt)


def _is_fence_due(draft: Draft, mark: NodeMark) -> bool:
    """What a person has ordered is asked for again when the run that should do it has not."""
    ordered = draft.is_ordered(mark.node_id, draft.facts[mark.node_id].region)
    asked_s = mark.stopped_s
    return ordered and asked_s is not None and draft.now_s - asked_s >= draft.policy.move_retry_s


def region_wishes(draft: Draft) -> list[Wish]:
    """One evacuation for each wholly lost region that has fenced nodes with agents to move."""
    due: dict[str, list[NodeMark]] = {}
    for mark in draft.nodes.values():
        if mark.state is NodeState.FENCED and _is_due(draft, mark):
            facts = draft.facts[mark.node_id]
            single = draft.is_forced(f"node/{mark.node_id}")
            if facts.agents > 0 and draft.is_full(facts.region) and not single:
                due.setdefault(facts.region, []).append(mark)
    order = sorted(due, key=lambda region: (draft.regions[region].since_s, region))
    return [Wish(_evacuation(draft, region, due[region]), region) for region in order]


def _evacuation(draft: Draft, region: str, marks: list[NodeMark]) -> Action:
    names = tuple(sorted(mark.node_id for mark in marks))
    mark = draft.regions[region]
    return Action(
        kind=ActionKind.EVACUATE_REGION,
        subject=f"region/{region}",
        rule=Rule.REGION_VERDICT,
        reasons=draft.counts[region].reasons(draft.policy),
        incident=mark.incident,
        term=draft.term,
        nodes=names,
        agents=sum(draft.facts[name].agents for name in names),
        attempt=mark.wave + 1,
    )


def act_on_nodes(draft: Draft) -> None:
    """Fence and move single nodes as far as the limits allow."""
    budget = MoveBudget(draft)
    for action, region in node_wishes(draft):
        mark = draft.nodes[action.nodes[0]]
        limit = move_limit(draft, action, mark, region)
        if limit is None and action.kind is ActionKind.MOVE_NODE:
            limit = budget.limit(action, region)
        if limit is not None:
            _refuse(draft, action, limit)
            continue
        draft.actions.append(action)
        if action.kind is ActionKind.FENCE_NODE:
            draft.nodes[mark.node_id] = _fence_asked(draft, mark, region)
            continue
        budget.take(action, region)
        draft.nodes[mark.node_id] = _moved(draft, mark, action)


def _fence_asked(draft: Draft, mark: NodeMark, region: str) -> NodeMark:
    told = mark.told if "fence" in mark.told else (*mark.told, "fence")
    ordered = draft.is_ordered(mark.node_id, region)
    return mark._replace(
        told=told, stopped_s=draft.now_s, attempts=mark.attempts + 1 if ordered else mark.attempts
    )


def _moved(draft: Draft, mark: NodeMark, action: Action) -> NodeMark:
    if action.stateless_only:
        return mark._replace(stateless_moved=True)
    return mark._replace(
        moved_s=draft.now_s,
        attempts=mark.attempts + 1,
        cool_until_s=draft.now_s + draft.policy.cool_down_s,
    )


def act_on_regions(draft: Draft) -> None:
    """Evacuate regions as far as the limits allow; the first one counts for the second."""
    for action, region in region_wishes(draft):
        mark = draft.regions[region]
        limit = evacuation_limit(draft, action, mark)
        if limit is not None:
            _refuse(draft, action, limit)
            continue
        draft.actions.append(action)
        draft.regions[region] = mark._replace(
            evacuated_s=draft.now_s if mark.evacuated_s is None else mark.evacuated_s,
            evacuation=mark.incident or mark.evacuation,
            wave=mark.wave + 1,
        )
        note = MoveNote(draft.now_s, action.subject, region, action.agents, evacuation=True)
        draft.moves.append(note)
        for node_id in action.nodes:
            draft.nodes[node_id] = _moved(draft, draft.nodes[node_id], action)


def _refuse(draft: Draft, action: Action, limit: Limit) -> None:
    draft.refuse(action, limit.rule, limit.reasons, limit.wait_s, approvable=limit.approvable)
