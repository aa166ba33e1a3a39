"""One tick of failover: evidence and memory in, actions and non-actions with their reasons out.

The order is the safety argument: first the controller doubts itself (freeze), then nodes and
regions are judged, then it is asked whether we are the one who may act, and only then actions are
asked for, each through its limits. The live sensor and the simulator call this same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fleet.errors import InvalidInputError
from fleet.failover.draft import Draft
from fleet.failover.fail_back import act_on_fail_backs
from fleet.failover.incident_steps import adopt_incidents, end_incidents, open_incidents
from fleet.failover.limits import moves_kept
from fleet.failover.moving import act_on_nodes, act_on_regions, node_wishes, region_wishes
from fleet.failover.node_case import Orders
from fleet.failover.node_states import is_forgettable, judge_node
from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import (
    ControllerState,
    Decision,
    Evidence,
    FailoverState,
    NodeMark,
    Rule,
    Transition,
)
from fleet.failover.region_states import RegionCount, count_regions, is_remembered, judge_regions
from fleet.failover.restarting import continue_under, restart_ages
from fleet.failover.screening import Screen, node_facts, screen_nodes
from fleet.failover.self_test import Failure, leader_failure, run_self_test
from fleet.failover.telling import (
    act_on_discovery,
    park_crash_loops,
    stop_stale_copies,
    tell_nodes,
    tell_regions,
)

ALL_RULES: frozenset[Rule] = frozenset()
"""`without` of every live caller: no rule is switched off."""


def decide(
    evidence: Evidence,
    state: FailoverState,
    policy: FailoverPolicy,
    now_s: float,
    *,
    without: frozenset[Rule] = ALL_RULES,
) -> Decision:
    """Decide one tick.

    The same arguments give the same decision. Actions are requests: the executor checks term,
    epoch and evidence again at the moment of acting, and each is idempotent by its key.

    Args:
        evidence: everything known now.
        state: what the last decision returned; `FailoverState()` at first.
        policy: the numbers.
        now_s: the receiver's monotonic clock, the one that `evidence.clock_id` names.
        without: rules that are switched off, to prove that the invariant checker notices. Live
            callers never pass it.

    Returns:
        What to do, what is not done and why, and the state for the next tick.

    Raises:
        InvalidInputError: `evidence.at` is naive.
    """
    if evidence.at.tzinfo is None:
        raise InvalidInputError("evidence.at", evidence.at, "an aware time")
    before = continue_under(state, evidence.clock_id, now_s)
    restarted = before is not state
    screen = screen_nodes(evidence, before, policy, now_s, without)
    failures = run_self_test(evidence, screen, before, policy, now_s, without)
    thaws = before.controller is ControllerState.FROZEN and not failures
    if thaws and Rule.AGES_RESTART not in without:
        before, restarted = restart_ages(before, now_s), True
        screen = screen_nodes(evidence, before, policy, now_s, without)
    draft = _draft(evidence, before, policy, now_s, screen, without)
    if failures:
        draft.counts = _counts(draft, screen)
        return _frozen(draft, before, failures, restarted=restarted)
    _judge(draft, screen)
    failure = leader_failure(evidence.leader, policy)
    if failure is not None and Rule.LEADER_LEASE not in without:
        _refuse_all(draft, failure)
        return _finish(draft, before, ControllerState.STANDBY, restarted=restarted)
    _act(draft)
    return _finish(draft, before, ControllerState.ACTIVE, restarted=restarted)


def _draft(
    evidence: Evidence,
    state: FailoverState,
    policy: FailoverPolicy,
    now_s: float,
    screen: Screen,
    without: frozenset[Rule],
) -> Draft:
    """Facts and marks of the nodes that must be looked at; all others are plainly healthy."""
    indices = _looked_at(evidence, state) | set(screen.odd().tolist())
    facts = {row.node_id: row for row in node_facts(evidence, screen, policy, sorted(indices))}
    return Draft(
        evidence=evidence,
        policy=policy,
        now_s=now_s,
        without=without,
        facts=facts,
        nodes={name: state.nodes.get(name) or NodeMark(name, since_s=now_s) for name in facts},
        regions=dict(state.regions),
        counts={},
        moves=moves_kept(state.moves, policy, now_s),
        parked=dict(state.parked),
        incidents={fact.incident_id: fact for fact in evidence.incidents},
        open_by_subject={fact.subject: fact.incident_id for fact in evidence.incidents},
        gone={
            name: mark for name, mark in state.nodes.items() if name not in facts and mark.incident
        },
    )


def _looked_at(evidence: Evidence, state: FailoverState) -> set[int]:
    """Nodes that are remembered, have an open incident, or that a person has named."""
    nodes, forced = evidence.nodes, evidence.directives.forced
    subjects = (*forced, *(fact.subject for fact in evidence.incidents))
    named = (subject.removeprefix("node/") for subject in subjects if subject.startswith("node/"))
    found = {nodes.find(name) for name in (*state.nodes, *named)}
    regions = [i for i, region in enumerate(nodes.regions) if f"region/{region}" in forced]
    if regions:
        import numpy as np

        found.update(np.flatnonzero(np.isin(nodes.region_index, regions)).tolist())
    return {index for index in found if index is not None}


def _judge(draft: Draft, screen: Screen) -> None:
    """Carry the marks of nodes and regions through this tick."""
    directives = draft.evidence.directives
    for name, facts in draft.facts.items():
        subject = f"node/{name}"
        forced = not directives.forced.isdisjoint((subject, f"region/{facts.region}"))
        orders = Orders(forced, subject in directives.acknowledged)
        judgement = judge_node(
            facts, draft.nodes[name], draft.policy, draft.now_s, orders, draft.without
        )
        draft.nodes[name] = judgement.mark
        draft.transitions.extend(judgement.transitions)
    draft.counts = _counts(draft, screen)
    draft.regions, changes = judge_regions(draft.counts, draft.regions, draft.policy, draft.now_s)
    draft.transitions.extend(changes)


def _counts(draft: Draft, screen: Screen) -> dict[str, RegionCount]:
    forced = draft.evidence.directives.forced
    return count_regions(draft.columns, screen, draft.nodes, forced)


def _act(draft: Draft) -> None:
    """Ask for what the marks call for, as far as the limits allow."""
    adopt_incidents(draft)
    open_incidents(draft)
    tell_nodes(draft)
    tell_regions(draft)
    stop_stale_copies(draft)
    act_on_regions(draft)
    act_on_nodes(draft)
    act_on_discovery(draft)
    park_crash_loops(draft)
    act_on_fail_backs(draft)
    end_incidents(draft)


def _refuse_all(draft: Draft, failure: Failure) -> None:
    """Record what the marks ask for and this controller may not do."""
    for wish in (*region_wishes(draft), *node_wishes(draft)):
        draft.refuse(wish.action, failure.rule, failure.reasons)


def _frozen(
    draft: Draft, state: FailoverState, failures: tuple[Failure, ...], *, restarted: bool
) -> Decision:
    """Change nothing; say why, once for as long as the causes stay the same."""
    rules = tuple(failure.rule for failure in failures)
    for failure in failures:
        if failure.rule.value not in state.frozen_by or failure.rule is Rule.TICK_GAP:
            summary = f"failover is frozen: {failure.rule.value.replace('_', ' ')}"
            draft.alert("controller", failure.rule, failure.reasons, summary)
    _refuse_all(draft, failures[0])
    transitions = _controller_change(state, ControllerState.FROZEN, failures[0])
    after = replace(
        state,
        clock_id=draft.evidence.clock_id,
        tick_s=draft.now_s,
        controller=ControllerState.FROZEN,
        frozen_by=tuple(rule.value for rule in rules),
        moves=tuple(draft.moves),
    )
    return Decision(
        state=after,
        actions=tuple(draft.actions),
        non_actions=tuple(draft.non_actions),
        transitions=transitions,
        controller=ControllerState.FROZEN,
        frozen_by=rules,
        ages_restarted=restarted,
    )


def _finish(
    draft: Draft, state: FailoverState, controller: ControllerState, *, restarted: bool
) -> Decision:
    """The state for the next tick: only what still matters."""
    failure = leader_failure(draft.evidence.leader, draft.policy)
    transitions = _controller_change(state, controller, failure)
    after = FailoverState(
        clock_id=draft.evidence.clock_id,
        tick_s=draft.now_s,
        ages_from_s=state.ages_from_s,
        controller=controller,
        nodes=_kept({**draft.nodes, **draft.gone}, draft.policy, draft.now_s),
        regions={name: mark for name, mark in draft.regions.items() if is_remembered(mark)},
        moves=tuple(draft.moves),
        parked=draft.parked,
    )
    return Decision(
        state=after,
        actions=tuple(draft.actions),
        non_actions=tuple(draft.non_actions),
        transitions=(*transitions, *draft.transitions),
        controller=controller,
        ages_restarted=restarted,
    )


def _kept(
    marks: Mapping[str, NodeMark], policy: FailoverPolicy, now_s: float
) -> dict[str, NodeMark]:
    return {name: mark for name, mark in marks.items() if not is_forgettable(mark, policy, now_s)}


def _controller_change(
    state: FailoverState, after: ControllerState, failure: Failure | None
) -> tuple[Transition, ...]:
    if state.controller is after:
        return ()
    rule = Rule.LEADER_LEASE if failure is None else failure.rule
    reasons = () if failure is None else failure.reasons
    return (Transition("controller", state.controller, after, rule, reasons),)
