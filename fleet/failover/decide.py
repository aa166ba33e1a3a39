"""One tick of failover: evidence and memory in, actions and non-actions with their reasons out.

The order is the safety argument: first the controller doubts itself (freeze), then nodes and
regions are judged, then it is asked whether we are the one who may act, and only then actions are
asked for, each through its limits. The live sensor and the simulator call this same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from fleet.errors import InvalidInputError
from fleet.failover.draft import Draft
from fleet.failover.earlier_moves import count_earlier_moves
from fleet.failover.fail_back import act_on_fail_backs
from fleet.failover.incident_steps import adopt_incidents, end_incidents, open_incidents
from fleet.failover.judging import OrderColumns, Question, judge_marks
from fleet.failover.late import Late
from fleet.failover.limits import moves_kept
from fleet.failover.mark_table import MarkDraft, MarkTable
from fleet.failover.moving import act_on_nodes, act_on_regions, node_wishes, region_wishes
from fleet.failover.node_states import is_forgettable
from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import (
    ControllerState,
    Decision,
    Evidence,
    FailoverState,
    Transition,
)
from fleet.failover.region_states import RegionCount, count_regions, is_remembered, judge_regions
from fleet.failover.restarting import continue_under, restart_ages
from fleet.failover.rules import Rule
from fleet.failover.screening import FactsTable, Screen, screen_nodes
from fleet.failover.self_test import Failure, leader_failure, run_self_test
from fleet.failover.telling import (
    act_on_discovery,
    park_crash_loops,
    tell_nodes,
    tell_regions,
)

if TYPE_CHECKING:
    from fleet.failover.columns import BoolArray
    from fleet.failover.mark_table import IndexArray

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
    before = count_earlier_moves(before, evidence, policy, now_s)
    before = replace(before, nodes=MarkTable.of(before.nodes, evidence.nodes))
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
    known = MarkTable.of(state.nodes, evidence.nodes)
    marks = MarkDraft.continued(known, _looked_at(evidence, known, screen), now_s)
    facts = FactsTable(evidence, screen, policy, marks)
    return Draft(
        evidence=evidence,
        policy=policy,
        now_s=now_s,
        without=without,
        facts=facts,
        nodes=marks,
        orders=_orders(evidence, facts, marks),
        regions=dict(state.regions),
        counts={},
        moves=moves_kept(state.moves, policy, now_s),
        parked=dict(state.parked),
        incidents={fact.incident_id: fact for fact in evidence.incidents},
        open_by_subject={fact.subject: fact.incident_id for fact in evidence.incidents},
        gone={name: mark for name, mark in known.gone.items() if mark.incident},
    )


def _looked_at(evidence: Evidence, known: MarkTable, screen: Screen) -> IndexArray:
    """Nodes that are odd or remembered, have an open incident, or that a person has named."""
    import numpy as np

    nodes, forced = evidence.nodes, evidence.directives.forced
    subjects = (*forced, *(fact.subject for fact in evidence.incidents))
    names = (subject.removeprefix("node/") for subject in subjects if subject.startswith("node/"))
    found = [nodes.find(name) for name in names if known.row_of(name) is None]
    named = np.array([index for index in found if index is not None], dtype=np.intp)
    regions = [i for i, region in enumerate(nodes.regions) if f"region/{region}" in forced]
    if regions:
        named = np.union1d(named, np.flatnonzero(np.isin(nodes.region_index, regions)))
    odd = screen.odd()
    if not len(named) and np.array_equal(odd, known.at):
        return known.at
    return np.unique(np.concatenate((known.at, odd, named)))


def _orders(evidence: Evidence, facts: FactsTable, marks: MarkDraft) -> OrderColumns:
    """What people have said about each node that is looked at."""
    import numpy as np

    def said(subjects: frozenset[str]) -> BoolArray:
        found = np.zeros(len(facts), dtype=bool)
        for subject in subjects:
            if subject.startswith("node/"):
                row = marks.row_of(subject.removeprefix("node/"))
                if row is not None:
                    found[row] = True
        return found

    directives = evidence.directives
    forced_node, region = said(directives.forced), facts.region_index
    names = [f"region/{name}" in directives.forced for name in facts.regions]
    forced = forced_node | np.array(names, dtype=bool)[region]
    return OrderColumns(forced, forced_node, said(directives.acknowledged))


def _judge(draft: Draft, screen: Screen) -> None:
    """Carry the marks of nodes and regions through this tick."""
    question = Question(draft.facts, draft.orders, draft.policy, draft.now_s, draft.without)
    draft.node_transitions = judge_marks(question, draft.nodes)
    draft.counts = _counts(draft, screen)
    draft.regions, draft.region_transitions = judge_regions(
        draft.counts, draft.regions, draft.policy, draft.now_s
    )


def _counts(draft: Draft, screen: Screen) -> dict[str, RegionCount]:
    forced = draft.evidence.directives.forced
    return count_regions(draft.columns, screen, draft.nodes, forced)


def _act(draft: Draft) -> None:
    """Ask for what the marks call for, as far as the limits allow."""
    adopt_incidents(draft)
    open_incidents(draft)
    tell_nodes(draft)
    tell_regions(draft)
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
        nodes=_kept(draft),
        regions={name: mark for name, mark in draft.regions.items() if is_remembered(mark)},
        moves=tuple(draft.moves),
        moves_term=state.moves_term,
        parked=draft.parked,
    )
    return Decision(
        state=after,
        actions=tuple(draft.actions),
        non_actions=tuple(draft.non_actions),
        transitions=_all_transitions(transitions, draft),
        controller=controller,
        ages_restarted=restarted,
    )


def _kept(draft: Draft) -> MarkTable:
    """Marks that still matter."""
    policy, now_s = draft.policy, draft.now_s
    rows = ~draft.nodes.where(lambda mark: is_forgettable(mark, policy, now_s))
    gone = {
        name: mark for name, mark in draft.gone.items() if not is_forgettable(mark, policy, now_s)
    }
    return draft.nodes.kept(rows, gone)


def _all_transitions(controller: tuple[Transition, ...], draft: Draft) -> Sequence[Transition]:
    """Of the controller, of nodes, of regions; those of nodes are written out when read."""
    parts = (controller, draft.node_transitions, draft.region_transitions)
    if not draft.node_transitions:
        return (*controller, *draft.region_transitions)
    return Late(sum(map(len, parts)), lambda: chain.from_iterable(parts))


def _controller_change(
    state: FailoverState, after: ControllerState, failure: Failure | None
) -> tuple[Transition, ...]:
    if state.controller is after:
        return ()
    rule = Rule.LEADER_LEASE if failure is None else failure.rule
    reasons = () if failure is None else failure.reasons
    return (Transition("controller", state.controller, after, rule, reasons),)
