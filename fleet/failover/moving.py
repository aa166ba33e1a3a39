"""Fencing, moving and evacuating: what the marks ask for, and what the limits leave of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

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

if TYPE_CHECKING:
    from fleet.failover.columns import BoolArray


class Wish(NamedTuple):
    """An action that a mark asks for."""

    action: Action
    region: str


def node_wishes(draft: Draft) -> list[Wish]:
    """Fences and moves that marks ask for, the longest suspected first.

    Nodes of a region that is wholly lost ask for nothing by themselves, unless ordered by force.
    """
    import numpy as np

    wishes = []
    rows = np.flatnonzero(_may_ask(draft))
    suspect_s = draft.nodes.column(lambda mark: mark.suspect_s)[rows]
    rows = rows[np.argsort(suspect_s, kind="stable")]
    draft.facts.read(rows)
    for mark in draft.nodes.marks(rows):
        region = draft.facts[mark.node_id].region
        action = _node_action(draft, mark)
        if action is not None and _is_single(draft, action, region):
            wishes.append(Wish(action, region))
    return wishes


def _may_ask(draft: Draft) -> BoolArray:
    """Rows for which `_node_action` may have an action."""
    nodes, column = draft.nodes, draft.facts.columns
    due = nodes.where(lambda mark: mark.state is NodeState.FENCED and _is_due(draft, mark))
    early = nodes.where(lambda mark: mark.state is NodeState.CONFIRMED and not mark.stateless_moved)
    fence = nodes.where(lambda mark: mark.state is NodeState.CONFIRMED and "fence" not in mark.told)
    asks = (due | fence) & (column["agents"] > 0) | early & (column["agents_stateless"] > 0)
    found: BoolArray = asks & (~draft.full_rows() | draft.orders.forced)
    return found


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
    if "fence" in mark.told or facts.agents == 0:
        return None
    return replace(action, kind=ActionKind.FENCE_NODE, rule=Rule.FENCING, attempt=1)


def region_wishes(draft: Draft) -> list[Wish]:
    """One evacuation for each wholly lost region that has fenced nodes with agents to move."""
    import numpy as np

    nodes, facts = draft.nodes, draft.facts
    due = nodes.where(lambda mark: mark.state is NodeState.FENCED and _is_due(draft, mark))
    due &= (facts.columns["agents"] > 0) & draft.full_rows() & ~draft.orders.forced_node
    numbers = np.unique(facts.region_index[due]).tolist()
    numbers.sort(key=lambda i: (draft.regions[facts.regions[i]].since_s, facts.regions[i]))
    return [
        Wish(_evacuation(draft, facts.regions[i], due & (facts.region_index == i)),
             facts.regions[i])
        for i in numbers
    ]  # fmt: skip


def _evacuation(draft: Draft, region: str, rows: BoolArray) -> Action:
    names = draft.nodes.names
    mark = draft.regions[region]
    return Action(
        kind=ActionKind.EVACUATE_REGION,
        subject=f"region/{region}",
        rule=Rule.REGION_VERDICT,
        reasons=draft.counts[region].reasons(draft.policy),
        incident=mark.incident,
        term=draft.term,
        nodes=tuple([names[row] for row in rows.nonzero()[0].tolist()]),
        agents=int(draft.facts.columns["agents"][rows].sum()),
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
            draft.nodes[mark.node_id] = mark._replace(told=(*mark.told, "fence"))
            continue
        budget.take(action, region)
        draft.nodes[mark.node_id] = _moved(draft, action, mark)


def _moved(draft: Draft, action: Action, mark: NodeMark) -> NodeMark:
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
        rows = draft.nodes.rows_of(action.nodes)
        draft.nodes.apply(rows, partial(_moved, draft, action))


def _refuse(draft: Draft, action: Action, limit: Limit) -> None:
    draft.refuse(action, limit.rule, limit.reasons, limit.wait_s, approvable=limit.approvable)
