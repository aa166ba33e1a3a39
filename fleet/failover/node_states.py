"""What a node is held to be: one state machine per node that is not plainly healthy.

::

    HEALTHY -> SUSPECT -> CONFIRMED -> FENCED -> MOVED -> PROBATION -> HEALTHY
    at the side: DEGRADED, GRAY, MAINTENANCE, QUARANTINE

Only marks change here; what is done about them is for `limits` and `decide`. Every step towards
MOVED needs its evidence in this very tick: a verdict whose votes have gone is taken back, and any
fresh sign of life ends it. The infrastructure's "terminated" goes through to FENCED in one tick.
"""

from __future__ import annotations

from typing import NamedTuple

from fleet.failover.node_case import Case, Orders, Step, fence_of, gray_since, is_gray, shows_life
from fleet.failover.policy import FailoverPolicy
from fleet.failover.reasons import (
    contrary_reasons,
    fence_reasons,
    gray_reasons,
    silence_reasons,
    vote_reasons,
)
from fleet.failover.records import NodeMark, NodeState, Reason, Transition
from fleet.failover.rules import Rule
from fleet.failover.screening import NodeFacts

DEAD = frozenset({NodeState.CONFIRMED, NodeState.FENCED, NodeState.MOVED})
"""States that follow a verdict."""

LOST = DEAD | {NodeState.SUSPECT}
"""States that count as not ready when a region is judged."""

UNPLACEABLE = frozenset(NodeState) - {NodeState.HEALTHY, NodeState.DEGRADED}
"""States in which a node must not be given agents."""

_STEPS_MAX = 4
"""SUSPECT, CONFIRMED, FENCED, MOVED: the longest way that one tick can go."""


class Judgement(NamedTuple):
    """What one tick makes of a node."""

    mark: NodeMark
    transitions: tuple[Transition, ...]


def judge_node(
    facts: NodeFacts,
    mark: NodeMark,
    policy: FailoverPolicy,
    now_s: float,
    orders: Orders = Orders(),  # noqa: B008 - an immutable record
    without: frozenset[Rule] = frozenset(),
) -> Judgement:
    """Carry one node's mark through this tick.

    Args:
        facts: what is seen of the node now.
        mark: what was remembered of it; a plain `NodeMark(node_id)` when nothing was.
        policy: the numbers.
        now_s: the receiver's monotonic clock.
        orders: of people.
        without: rules that are switched off, see `decide.decide`.

    Returns:
        The new mark, and each change of state in order; none when it stays.
    """
    transitions = []
    mark = _forget(mark, policy, now_s, orders)
    for _ in range(_STEPS_MAX):
        case = Case(facts, mark, policy, now_s, orders, without)
        mark = case.mark._replace(gray_s=gray_since(case))
        step = _next(case._replace(mark=mark))
        if step is None:
            break
        if step.mark.state is not mark.state:
            subject = f"node/{mark.node_id}"
            transitions.append(
                Transition(subject, mark.state, step.mark.state, step.rule, step.reasons)
            )
        mark = step.mark
    return Judgement(mark, tuple(transitions))


def _forget(mark: NodeMark, policy: FailoverPolicy, now_s: float, orders: Orders) -> NodeMark:
    """Drop what its window has left behind; acknowledging lifts cool-down, flaps and alerts."""
    flaps_s = tuple(at_s for at_s in mark.flaps_s if now_s - at_s < policy.flap_window_s)
    returns_s = tuple(at_s for at_s in mark.returns_s if now_s - at_s < policy.return_window_s)
    if orders.acknowledged:
        return mark._replace(flaps_s=(), returns_s=returns_s, cool_until_s=0.0)
    if flaps_s == mark.flaps_s and returns_s == mark.returns_s:
        return mark
    return mark._replace(flaps_s=flaps_s, returns_s=returns_s)


def is_forgettable(mark: NodeMark, policy: FailoverPolicy, now_s: float) -> bool:
    """Tell whether nothing of this mark can matter any more."""
    return (
        mark.state is NodeState.HEALTHY
        and not (mark.incident or mark.flaps_s or mark.returns_s or mark.unregistered)
        and mark.gray_s is None
        and mark.cool_until_s <= now_s
        and now_s - mark.watch_from_s
        > max(policy.suspect_cap_s, policy.lease_ttl_s + policy.fence_margin_s)
    )


def _next(case: Case) -> Step | None:
    """The next step, or None when the node stays where it is."""
    facts, mark = case.facts, case.mark
    maintained = facts.maintenance and Rule.MAINTENANCE not in case.without
    if maintained and mark.state is not NodeState.MAINTENANCE and not case.orders.forced:
        return case.to(NodeState.MAINTENANCE, Rule.MAINTENANCE, Reason("notice", "maintenance"))
    if mark.state is NodeState.MAINTENANCE:
        return None if maintained and not case.orders.forced else _end_maintenance(case)
    if mark.state is NodeState.MOVED:
        return _from_moved(case)
    if mark.state in DEAD:
        return _from_verdict(case)
    return _from_alive(case)


def _end_maintenance(case: Case) -> Step:
    """Its ages count from now: it may have been silent, and was allowed to."""
    reason = Reason("notice", "ended")
    if case.mark.moved_s is not None:
        back = _return(case)
        return Step(back.mark._replace(watch_from_s=case.now_s), Rule.MAINTENANCE, (reason,))
    return case.to(
        NodeState.HEALTHY, Rule.MAINTENANCE, reason, watch_from_s=case.now_s, confirmed_by="",
        fenced_by="",
    )  # fmt: skip


# -- before a verdict ----------------------------------------------------------------------------


def _from_alive(case: Case) -> Step | None:
    facts, mark = case.facts, case.mark
    if case.orders.forced:
        return case.to(
            NodeState.CONFIRMED, Rule.FORCED, Reason("ordered", "forced"), confirmed_by="forced"
        )
    if facts.terminated and Rule.TERMINATED not in case.without:
        reason = Reason("infrastructure", "terminated")
        return case.to(
            NodeState.CONFIRMED, Rule.TERMINATED, reason, confirmed_by="terminated",
            suspect_s=_doubted_s(case),
        )  # fmt: skip
    unusable = facts.heard and is_gray(case)
    if (facts.contradicted and not unusable) or (facts.silent and shows_life(case)):
        return _degrade(case)
    if facts.silent:
        return _from_silent(case)
    if mark.state is NodeState.SUSPECT:
        return _from_suspect_heard(case)
    return _from_heard(case)


def _doubted_s(case: Case) -> float:
    """Since when it is doubted: what showed life before that contradicts nothing."""
    return case.mark.suspect_s if case.mark.state is NodeState.SUSPECT else case.now_s


def _degrade(case: Case) -> Step | None:
    if case.mark.state is NodeState.DEGRADED:
        return None
    reasons = silence_reasons(case.facts) + contrary_reasons(case.facts, case.policy)
    return case.to(
        NodeState.DEGRADED, Rule.CONTRARY_EVIDENCE, *reasons, flaps_s=_flapped(case),
        moved_s=_left_s(case.mark),
    )  # fmt: skip


def _left_s(mark: NodeMark) -> float | None:
    """When its agents were moved; of a node that was lost without any, since when it is lost.

    Either way it has been away: when all channels carry again, it is on probation first.
    """
    empty = mark.state is NodeState.MOVED and mark.moved_s is None
    return mark.since_s if empty else mark.moved_s


def _flapped(case: Case) -> tuple[float, ...]:
    """Its flaps with this one: a suspicion that is cleared, by whatever channel is heard first."""
    mark = case.mark
    cleared = mark.state is not NodeState.MOVED and mark.state in LOST
    return (*mark.flaps_s, case.now_s) if cleared else mark.flaps_s


def _from_silent(case: Case) -> Step | None:
    facts, mark, policy = case.facts, case.mark, case.policy
    if mark.state is not NodeState.SUSPECT:
        reasons = silence_reasons(facts)
        return case.to(NodeState.SUSPECT, Rule.SILENCE, *reasons, suspect_s=case.now_s)
    if mark.moved_s is not None and facts.agents == 0:
        return case.to(NodeState.MOVED, Rule.PLACED_ELSEWHERE, Reason("agents", 0))
    waited_s = min(case.now_s - mark.since_s, facts.silence_s - facts.limit_s)
    confirm_s = 0.0 if Rule.CONFIRM_TIME in case.without else policy.confirm_s
    if not facts.dead_votes or waited_s < confirm_s:
        return None
    reasons = (
        *silence_reasons(facts),
        Reason("suspect_s", waited_s, confirm_s),
        *vote_reasons(facts, policy),
    )
    return case.to(NodeState.CONFIRMED, Rule.VOTE_MAJORITY, *reasons, confirmed_by="votes")


def _from_suspect_heard(case: Case) -> Step | None:
    """Not silent any more: a heartbeat came, or its ages were restarted."""
    if not case.facts.watched:
        return case.to(NodeState.HEALTHY, Rule.MAINTENANCE, Reason("expected", "no heartbeat"))
    if case.facts.heard:
        return _clear(case)
    if case.mark.since_s == case.now_s:
        return None
    return Step(case.mark._replace(since_s=case.now_s), Rule.AGES_RESTART, ())


def _clear(case: Case) -> Step:
    """It has come back before anything was moved: one flap."""
    mark, policy = case.mark, case.policy
    flaps_s = (*mark.flaps_s, case.now_s)
    heard = Reason("heartbeat_age_s", case.facts.heartbeat_age_s, case.facts.limit_s)
    changes = {"flaps_s": flaps_s, "confirmed_by": "", "fenced_by": ""}
    if mark.moved_s is not None:
        return _return(case._replace(mark=mark._replace(flaps_s=flaps_s)))
    if mark.probation_s > 0.0:
        return case.to(NodeState.PROBATION, Rule.PROBATION, heard, **changes)
    if len(flaps_s) >= policy.flaps_max and Rule.FLAPPING not in case.without:
        count = Reason("flaps", len(flaps_s), policy.flaps_max)
        return case.to(NodeState.QUARANTINE, Rule.FLAPPING, heard, count, **changes)
    return case.to(NodeState.HEALTHY, Rule.SILENCE, heard, **changes)


def _from_heard(case: Case) -> Step | None:
    """HEALTHY, DEGRADED, GRAY, PROBATION or QUARANTINE, and not silent."""
    mark = case.mark
    if mark.state is NodeState.PROBATION:
        return _from_probation(case)
    if is_gray(case) and mark.state is not NodeState.GRAY:
        return case.to(NodeState.GRAY, Rule.GRAY, *gray_reasons(case.facts, case.policy))
    if mark.state is NodeState.QUARANTINE:
        return _from_quarantine(case)
    return _from_one_channel(case)


def _from_one_channel(case: Case) -> Step | None:
    """HEALTHY, DEGRADED or GRAY: which channels carry life?"""
    facts, mark = case.facts, case.mark
    alive = facts.heard or not facts.watched
    if mark.state is NodeState.GRAY:
        if mark.gray_s is not None or not alive:
            return None
        back = NodeState.PROBATION if mark.probation_s > 0.0 else NodeState.HEALTHY
        return case.to(back, Rule.GRAY, *gray_reasons(facts, case.policy))
    if mark.state is NodeState.HEALTHY and facts.lease_lost:
        reasons = fence_reasons(facts, case.policy)
        return case.to(NodeState.DEGRADED, Rule.CONTRARY_EVIDENCE, *reasons)
    if mark.state is NodeState.DEGRADED and alive and not facts.lease_lost:
        if mark.moved_s is not None:
            return _return(case)
        return _from_degraded(case)
    return None


def _from_degraded(case: Case) -> Step:
    """All channels carry again: whole, unless it has come and gone too often, or just come."""
    flaps, flaps_max = len(case.mark.flaps_s), case.policy.flaps_max
    reasons = silence_reasons(case.facts)
    if case.mark.probation_s > 0.0:
        return case.to(NodeState.PROBATION, Rule.PROBATION, *reasons)
    if flaps >= flaps_max and Rule.FLAPPING not in case.without:
        count = Reason("flaps", flaps, flaps_max)
        return case.to(NodeState.QUARANTINE, Rule.FLAPPING, *reasons, count)
    return case.to(NodeState.HEALTHY, Rule.SILENCE, *reasons)


def _from_probation(case: Case) -> Step | None:
    mark, facts = case.mark, case.facts
    served_s = case.now_s - mark.since_s
    length_s = 0.0 if Rule.PROBATION in case.without else mark.probation_s
    stale = facts.agents_stale > 0 and Rule.STALE_EPOCHS not in case.without
    if served_s < length_s or stale or not facts.heard:
        return None
    reasons = (Reason("probation_s", served_s, length_s), Reason("agents_stale", 0))
    done = case.to(NodeState.HEALTHY, Rule.PROBATION, *reasons, probation_s=0.0)
    if len(mark.flaps_s) >= case.policy.flaps_max and Rule.FLAPPING not in case.without:
        return done._replace(mark=done.mark._replace(state=NodeState.QUARANTINE))
    return done


def _from_quarantine(case: Case) -> Step | None:
    """`_forget` empties the flaps; the last one must also be old enough."""
    flaps_s = case.mark.flaps_s
    calm_s = case.now_s - max(flaps_s, default=case.mark.since_s)
    if not case.orders.acknowledged and calm_s < case.policy.quarantine_s:
        return None
    said = "yes" if case.orders.acknowledged else "no"
    reasons = (Reason("calm_s", calm_s, case.policy.quarantine_s), Reason("acknowledged", said))
    return case.to(NodeState.HEALTHY, Rule.FLAPPING, *reasons, flaps_s=())


# -- after a verdict -----------------------------------------------------------------------------


def _from_verdict(case: Case) -> Step | None:
    """CONFIRMED or FENCED: the evidence must still stand."""
    facts, mark = case.facts, case.mark
    if facts.agents == 0 and (mark.state is NodeState.FENCED or mark.moved_s is not None):
        return case.to(NodeState.MOVED, Rule.PLACED_ELSEWHERE, Reason("agents", 0))
    if not case.orders.forced:
        taken_back = _take_back(case)
        if taken_back is not None:
            return taken_back
    fenced_by = fence_of(facts, case.policy, case.without)
    reasons = fence_reasons(facts, case.policy)
    if mark.state is NodeState.FENCED:
        if fenced_by:
            return None
        return case.to(NodeState.CONFIRMED, Rule.FENCING, *reasons, fenced_by="")
    if not fenced_by:
        return None
    return case.to(NodeState.FENCED, Rule.FENCING, *reasons, fenced_by=fenced_by)


def _take_back(case: Case) -> Step | None:
    """Fresh contrary evidence, a return, or votes that have gone end a verdict."""
    facts, by_votes = case.facts, case.mark.confirmed_by == "votes"
    if facts.terminated and Rule.TERMINATED not in case.without:
        known = case.mark.confirmed_by == "terminated"
        mark = case.mark._replace(confirmed_by="terminated")
        return None if known else Step(mark, Rule.TERMINATED, ())
    if not facts.watched:
        return _stand_down(case)
    if facts.heard and not facts.contradicted:
        return _clear(case)
    if facts.contradicted or shows_life(case):
        reasons = silence_reasons(facts) + contrary_reasons(facts, case.policy)
        return case.to(
            NodeState.DEGRADED, Rule.CONTRARY_EVIDENCE, *reasons, confirmed_by="", fenced_by="",
            flaps_s=_flapped(case),
        )  # fmt: skip
    if not (by_votes and facts.dead_votes):  # what confirmed it is not said any more
        reasons = vote_reasons(facts, case.policy)
        return case.to(
            NodeState.SUSPECT, Rule.VOTE_MAJORITY, *reasons, confirmed_by="", fenced_by=""
        )
    return None


def _stand_down(case: Case) -> Step:
    """It is pending or was stopped on request: no sign of life is expected, none is missed."""
    if case.mark.moved_s is not None:
        return _return(case)
    reason = Reason("expected", "no heartbeat")
    return case.to(NodeState.HEALTHY, Rule.MAINTENANCE, reason, confirmed_by="", fenced_by="")


def _from_moved(case: Case) -> Step | None:
    facts = case.facts
    if facts.heard and not facts.terminated and not case.orders.forced:
        return _return(case)
    if not (facts.terminated or case.orders.forced) and (facts.contradicted or shows_life(case)):
        return _degrade(case)
    if facts.agents > 0:  # a stale plan put them there after the move
        return case.to(
            NodeState.SUSPECT, Rule.SILENCE, Reason("agents", facts.agents, 0), moved_s=None,
            attempts=0, stateless_moved=False, confirmed_by="", fenced_by="",
        )  # fmt: skip
    return None


def _return(case: Case) -> Step:
    """It is back after its agents went elsewhere: probation, doubled with each return."""
    mark, policy = case.mark, case.policy
    probation_s = min(policy.probation_s * 2.0 ** len(mark.returns_s), policy.probation_max_s)
    reasons = (
        Reason("heartbeat_age_s", case.facts.heartbeat_age_s, case.facts.limit_s),
        Reason("returns", len(mark.returns_s) + 1),
    )
    return case.to(
        NodeState.PROBATION, Rule.PROBATION, *reasons, probation_s=max(probation_s, 1e-9),
        returns_s=(*mark.returns_s, case.now_s), moved_s=None, attempts=0, stateless_moved=False,
        confirmed_by="", fenced_by="",
    )  # fmt: skip
