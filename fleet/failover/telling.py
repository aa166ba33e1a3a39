"""Alerts, discovery of gray nodes, crash loops: what one tick says besides moves.

Everything follows from marks and facts as they are, not from the moment of a change, so that a
controller that takes over says what its predecessor could not.
"""

from __future__ import annotations

from functools import partial

from fleet.failover.draft import Draft
from fleet.failover.limits import mode_limit, pause_limit
from fleet.failover.node_case import is_unusable
from fleet.failover.policy import FailoverPolicy
from fleet.failover.reasons import (
    contrary_reasons,
    death_reasons,
    fence_reasons,
    gray_reasons,
    silence_reasons,
    vote_reasons,
)
from fleet.failover.records import (
    Action,
    ActionKind,
    NodeMark,
    NodeState,
    Reason,
    RegionState,
)
from fleet.failover.rules import Rule
from fleet.failover.screening import NodeFacts

_PARK_REPEAT_WINDOWS = 2.0
"""A parking that had no effect is asked for again after so many crash windows."""


def tell_nodes(draft: Draft) -> None:
    """Raise each node's alert once per state."""
    rows = draft.nodes.rows(lambda mark: _may_be_told(draft, mark))
    draft.facts.read(rows)
    told: dict[Rule, list[int]] = {}
    for row, mark in zip(rows.tolist(), draft.nodes.marks(rows), strict=True):
        found = _node_alert(draft, mark)
        if found is not None and found[0].value not in mark.told:
            rule, reasons, summary = found
            draft.alert(f"node/{mark.node_id}", rule, reasons, summary, mark.incident)
            told.setdefault(rule, []).append(row)
    for rule, alike in told.items():
        draft.nodes.apply(alike, partial(_with_word, rule.value))


def _with_word(word: str, mark: NodeMark) -> NodeMark:
    return mark._replace(told=(*mark.told, word))


_ALERTS = {
    NodeState.DEGRADED: Rule.CONTRARY_EVIDENCE,
    NodeState.GRAY: Rule.GRAY,
    NodeState.QUARANTINE: Rule.FLAPPING,
    NodeState.SUSPECT: Rule.UNDECIDED,
    NodeState.MOVED: Rule.TERMINATED,
    NodeState.PROBATION: Rule.STALE_EPOCHS,
}
"""States that call for an alert, and its rule."""


def _may_be_told(draft: Draft, mark: NodeMark) -> bool:
    """Whether `_node_alert` may have something new to say."""
    rule = _ALERTS.get(mark.state)
    if rule is None or rule.value in mark.told:
        return False
    if mark.state is NodeState.MOVED:
        return not mark.incident and mark.moved_s is None
    if mark.state is NodeState.PROBATION:
        return draft.now_s - mark.since_s >= draft.policy.move_retry_s
    limit_s = draft.policy.undecided_windows * draft.policy.confirm_s
    return mark.state is not NodeState.SUSPECT or draft.now_s - mark.since_s >= limit_s


_Alert = tuple[Rule, tuple[Reason, ...], str]


def _node_alert(draft: Draft, mark: NodeMark) -> _Alert | None:
    """The alert that a node's state calls for."""
    name, facts, policy = mark.node_id, draft.facts[mark.node_id], draft.policy
    found: _Alert | None = None
    if mark.state is NodeState.DEGRADED:
        found = _degraded_alert(name, facts, policy)
    elif mark.state is NodeState.GRAY and is_unusable(mark, policy, draft.now_s):
        summary = f"{name} beats, but nobody can use it"
        found = (Rule.GRAY, gray_reasons(facts, policy), summary)
    elif mark.state is NodeState.QUARANTINE:
        reason = Reason("flaps", len(mark.flaps_s), policy.flaps_max)
        found = (Rule.FLAPPING, (reason,), f"{name} comes and goes; it gets no agents")
    elif mark.state is NodeState.SUSPECT and draft.keeps(Rule.UNDECIDED):
        found = _undecided_alert(mark, facts, policy, draft.now_s)
    elif mark.state is NodeState.MOVED and not mark.incident and mark.moved_s is None:
        summary = f"{name} is lost; no agents are placed there"
        found = (Rule.TERMINATED, death_reasons(facts, policy), summary)
    elif mark.state is NodeState.PROBATION and draft.keeps(Rule.STALE_EPOCHS):
        found = _stale_alert(mark, facts, policy, draft.now_s)
    return found


def _stale_alert(
    mark: NodeMark, facts: NodeFacts, policy: FailoverPolicy, now_s: float
) -> _Alert | None:
    """A node stops them when it reads its placements, with its first heartbeat; this one has not.

    Nobody asks it again: it is the same supervisor that would be asked. Nothing is written twice,
    because their epochs are refused; what else they do, only a person can judge.
    """
    back_s = now_s - mark.since_s
    if facts.agents_stale == 0 or back_s < policy.move_retry_s:
        return None
    reasons = (
        Reason("agents_stale", facts.agents_stale, 0),
        Reason("back_s", back_s, policy.move_retry_s),
    )
    summary = f"{mark.node_id} is back and has not stopped copies that belong elsewhere by now"
    return Rule.STALE_EPOCHS, reasons, summary


def _degraded_alert(name: str, facts: NodeFacts, policy: FailoverPolicy) -> _Alert:
    if facts.lease_lost:
        summary = f"{name} beats, but its lease has run out: its agents have stopped themselves"
        return Rule.CONTRARY_EVIDENCE, fence_reasons(facts, policy), summary
    reasons = silence_reasons(facts) + contrary_reasons(facts, policy)
    return Rule.CONTRARY_EVIDENCE, reasons, f"{name} looks dead on one channel, not on others"


def _undecided_alert(
    mark: NodeMark, facts: NodeFacts, policy: FailoverPolicy, now_s: float
) -> _Alert | None:
    suspect_s = now_s - mark.since_s
    limit_s = policy.undecided_windows * policy.confirm_s
    if suspect_s < limit_s:
        return None
    reasons = (Reason("suspect_s", suspect_s, limit_s), *vote_reasons(facts, policy))
    summary = f"{mark.node_id} is silent, but the observers reach no verdict"
    return Rule.UNDECIDED, reasons, summary


def tell_regions(draft: Draft) -> None:
    """Raise an alert once when a region becomes partial or full."""
    for mark in sorted(draft.regions.values()):
        if mark.state is RegionState.NORMAL or mark.state.value in mark.told:
            continue
        rule = Rule.REGION_SUSPECT if mark.state is RegionState.FULL else Rule.REGION_PARTIAL
        count = draft.counts[mark.region]
        summary = f"region {mark.region}: {count.lost} of {count.watched} nodes are lost"
        reasons = count.reasons(draft.policy)
        draft.alert(f"region/{mark.region}", rule, reasons, summary, mark.incident)
        draft.regions[mark.region] = mark._replace(told=(*mark.told, mark.state.value))


def act_on_discovery(draft: Draft) -> None:
    """Take gray nodes out of discovery, and put back those that can be used again.

    Out goes only who beats and cannot be used in this very tick: of a node whose beats have ended
    since the verdict, by a controller that could not act on it then, nobody knows whether silence
    or a return comes next. Who is out stays out until it is whole.
    """
    rows = draft.nodes.rows(lambda mark: _leaves_or_returns(draft, mark))
    draft.facts.read(rows)
    changed = list[int]()
    for row, mark in zip(rows.tolist(), draft.nodes.marks(rows), strict=True):
        gray = mark.state is NodeState.GRAY
        facts = draft.facts[mark.node_id]
        action = Action(
            kind=ActionKind.UNREGISTER_NODE if gray else ActionKind.REGISTER_NODE,
            subject=f"node/{mark.node_id}",
            rule=Rule.GRAY,
            reasons=gray_reasons(facts, draft.policy),
            term=draft.term,
            nodes=(mark.node_id,),
            agents=facts.agents,
        )
        limit = pause_limit(draft, action.subject)
        if gray:
            limit = limit or mode_limit(draft, action, draft.policy.gray_mode)
        if limit is not None:
            draft.refuse(action, limit.rule, limit.reasons, approvable=limit.approvable)
            continue
        draft.actions.append(action)
        changed.append(row)
    draft.nodes.apply(changed, lambda mark: mark._replace(unregistered=not mark.unregistered))


def _leaves_or_returns(draft: Draft, mark: NodeMark) -> bool:
    if mark.unregistered:
        return mark.state is NodeState.HEALTHY
    return mark.state is NodeState.GRAY and is_unusable(mark, draft.policy, draft.now_s)


def park_crash_loops(draft: Draft) -> None:
    """An agent that crashes again and again on a healthy node stays there, parked."""
    policy, now_s = draft.policy, draft.now_s
    if not draft.keeps(Rule.CRASH_LOOP):
        return
    keep_s = _PARK_REPEAT_WINDOWS * policy.crash_window_s
    draft.parked = {key: at_s for key, at_s in draft.parked.items() if now_s - at_s < keep_s}
    for crashes in sorted(draft.evidence.crashes):
        mark = draft.nodes.get(crashes.node_id)
        healthy = mark is None or mark.state is NodeState.HEALTHY
        key = f"{crashes.agent_id}@{crashes.epoch}"
        if crashes.restarts < policy.crash_restarts_max or not healthy or key in draft.parked:
            continue
        action = Action(
            kind=ActionKind.PARK_AGENT,
            subject=f"agent/{crashes.agent_id}",
            rule=Rule.CRASH_LOOP,
            reasons=(
                Reason("restarts", crashes.restarts, policy.crash_restarts_max),
                Reason("crash_window_s", policy.crash_window_s),
                Reason("epoch", crashes.epoch),
                Reason("node_state", "healthy"),
            ),
            term=draft.term,
            nodes=(crashes.node_id,),
            agents=1,
        )
        limit = pause_limit(draft, action.subject) or mode_limit(draft, action, policy.park_mode)
        if limit is not None:
            draft.refuse(action, limit.rule, limit.reasons, approvable=limit.approvable)
            continue
        draft.actions.append(action)
        draft.parked[key] = now_s
