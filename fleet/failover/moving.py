"""Fencing, moving and evacuating: what the marks ask for, and what the limits leave of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from fleet.failover.draft import Draft
from fleet.failover.incident_steps import verdict_rule
from fleet.failover.limits import Limit, MoveBudget, MoveLimits, evacuation_limit
from fleet.failover.records import (
    Action,
    ActionKind,
    MoveNote,
    NodeMark,
    NodeState,
    Reason,
)
from fleet.failover.rules import Rule

if TYPE_CHECKING:
    from fleet.failover.columns import BoolArray


class Wish(NamedTuple):
    """An action that a mark asks for."""

    action: Action
    region: str
    row: int = -1
    """Of the node that it is about."""


def node_wishes(draft: Draft) -> list[Wish]:
    """Fences and moves that marks ask for, the longest suspected first.

    Nodes of a region that is wholly lost ask for nothing by themselves, unless ordered by force.
    """
    import numpy as np

    nodes, facts, orders = draft.nodes, draft.facts, draft.orders
    at = np.flatnonzero(_may_ask(draft))
    at = at[np.argsort(nodes.column(lambda mark: mark.suspect_s)[at], kind="stable")]
    rows, asks, wishes = at.tolist(), dict[tuple[int, bool], _Asks](), []
    places = zip(
        rows, nodes.codes[at].tolist(), orders.forced[at].tolist(), facts.region_index[at].tolist(),
        facts.columns["agents"][at].tolist(), facts.columns["agents_stateless"][at].tolist(),
        draft.full_rows()[at].tolist(), draft.death_reasons(rows), strict=True,
    )  # fmt: skip
    for row, code, forced, number, agents, stateless, full, death in places:
        if (code, forced) not in asks:
            asks[code, forced] = _asks_of(draft, nodes.distinct[code], forced=forced)
        early, rest = asks[code, forced]
        ask, count = (early, stateless) if early and stateless > 0 else (rest, agents)
        if ask is None or count <= 0:
            continue
        action, region = _node_action(draft, row, ask, count, death), facts.regions[number]
        if not full or _is_single(draft, action, region):
            wishes.append(Wish(action, region, row))
    return wishes


class _Ask(NamedTuple):
    """What one mark asks for."""

    kind: ActionKind
    rule: Rule
    attempt: int
    asked: tuple[Reason, ...] = ()
    """When it was asked for before."""
    stateless_only: bool = False


class _Asks(NamedTuple):
    """What all nodes ask for that are remembered alike."""

    early: _Ask | None
    """Of those that have stateless agents."""
    rest: _Ask | None
    """Of all others that have agents."""


def _asks_of(draft: Draft, mark: NodeMark, *, forced: bool) -> _Asks:
    """A move once the node is fenced; before, one of its stateless agents, else a fence."""
    attempt = mark.attempts + 1
    if mark.state is NodeState.FENCED:
        due = _is_due(draft, mark)
        return _Asks(None, _Ask(ActionKind.MOVE_NODE, verdict_rule(mark), attempt) if due else None)
    early, fence = None, None
    if not mark.stateless_moved and draft.keeps(Rule.STATELESS):
        early = _Ask(ActionKind.MOVE_NODE, Rule.STATELESS, attempt, stateless_only=True)
    if _is_fence_due(draft, mark, forced=forced):
        number, asked = attempt if forced else 1, _asked_before(draft, mark)
        fence = _Ask(ActionKind.FENCE_NODE, Rule.FENCING, number, asked)
    return _Asks(early, fence)


def _may_ask(draft: Draft) -> BoolArray:
    """Rows for which `_node_action` may have an action."""
    nodes, column = draft.nodes, draft.facts.columns
    due = nodes.where(lambda mark: mark.state is NodeState.FENCED and _is_due(draft, mark))
    early = nodes.where(lambda mark: mark.state is NodeState.CONFIRMED and not mark.stateless_moved)
    fence = nodes.where(lambda mark: mark.state is NodeState.CONFIRMED and mark.fence_s is None)
    fence |= draft.orders.forced & nodes.where(
        lambda mark: mark.state is NodeState.CONFIRMED and _is_fence_old(draft, mark)
    )
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


def _node_action(
    draft: Draft, row: int, ask: _Ask, agents: int, death: tuple[Reason, ...]
) -> Action:
    name = draft.nodes.names[row]
    return Action(
        ask.kind,
        f"node/{name}",
        ask.rule,
        (*ask.asked, *death),
        draft.nodes.incident(row),
        draft.term,
        (name,),
        agents,
        ask.attempt,
        ask.stateless_only,
    )


def _is_fence_due(draft: Draft, mark: NodeMark, *, forced: bool) -> bool:
    """A stop is asked for once; by a person's order again, while the agents are still in place.

    Such a request is a run of its own, so it has a number of its own; the others only tell.
    """
    return mark.fence_s is None or (forced and _is_fence_old(draft, mark))


def _is_fence_old(draft: Draft, mark: NodeMark) -> bool:
    return mark.fence_s is not None and draft.now_s - mark.fence_s >= draft.policy.move_retry_s


def _asked_before(draft: Draft, mark: NodeMark) -> tuple[Reason, ...]:
    if mark.fence_s is None:
        return ()
    waited_s = draft.now_s - mark.fence_s
    return (Reason("fence_asked_s_ago", waited_s, draft.policy.move_retry_s),)


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
    limits, budget, nodes = MoveLimits(draft), MoveBudget(draft), draft.nodes
    fenced, moved, early = list[int](), list[int](), list[int]()
    for action, region, row in node_wishes(draft):
        limit = limits.limit(action, nodes.shared(row), region)
        if limit is None and action.kind is ActionKind.MOVE_NODE:
            limit = budget.limit(action, region)
        if limit is not None:
            _refuse(draft, action, limit)
            continue
        draft.actions.append(action)
        if action.kind is ActionKind.FENCE_NODE:
            fenced.append(row)
            if draft.is_forced(action.subject):
                budget.take(action, region)  # its run moves them as well
            _give_up(draft, action, region)
            continue
        budget.take(action, region)
        (early if action.stateless_only else moved).append(row)
    forced = draft.orders.forced.tolist()
    for counts in (True, False):  # only what is a run of its own has a number
        rows = [row for row in fenced if forced[row] is counts]
        nodes.apply(rows, partial(_fence_asked, draft, counts))
    nodes.apply(early, lambda mark: mark._replace(stateless_moved=True))
    nodes.apply(moved, partial(_moved, draft))


def _fence_asked(draft: Draft, counts: bool, mark: NodeMark) -> NodeMark:
    attempts = mark.attempts + 1 if counts else mark.attempts
    return mark._replace(fence_s=draft.now_s, attempts=attempts)


def _give_up(draft: Draft, action: Action, region: str) -> None:
    """A region that lives is evacuated by order: remember it, or nobody could go home again.

    The executor makes one evacuation of the fences of its nodes (`ops.failover_standing`).
    """
    known = draft.regions.get(region)
    if known is None or not draft.is_forced(f"region/{region}"):
        return
    if draft.is_forced(action.subject):
        return
    draft.regions[region] = known._replace(
        evacuated_s=draft.now_s if known.evacuated_s is None else known.evacuated_s,
        evacuation=known.incident or action.incident or known.evacuation,
    )


def _moved(draft: Draft, mark: NodeMark) -> NodeMark:
    return mark._replace(
        moved_s=draft.now_s,
        attempts=mark.attempts + 1,
        cool_until_s=draft.now_s + draft.policy.cool_down_s,
    )


def act_on_regions(draft: Draft) -> None:
    """Evacuate regions as far as the limits allow; the first one counts for the second."""
    for action, region, _ in region_wishes(draft):
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
        draft.nodes.apply(rows, partial(_moved, draft))


def _refuse(draft: Draft, action: Action, limit: Limit) -> None:
    draft.refuse(action, limit.rule, limit.reasons, limit.wait_s, approvable=limit.approvable)
