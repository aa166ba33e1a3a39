"""The second look: whether what was planned still holds; and what became of earlier proposals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from fleet.consolidation.planning import (
    as_disruptions,
    disruption_of,
    is_candidate,
    make_proposal,
    over_workload_budget,
    resting_nodes,
)
from fleet.consolidation.records import (
    ConsolidationPolicy,
    ConsolidationProposal,
    Fits,
    Kind,
    NodeLoad,
    Standing,
    reason_of,
)
from fleet.disruption_budgets import Disruption, allowance


def validate_proposals(
    planned: Iterable[ConsolidationProposal],
    loads: Sequence[NodeLoad],
    recent: Sequence[Disruption],
    policy: ConsolidationPolicy,
    fits: Fits,
    now: datetime,
) -> list[ConsolidationProposal]:
    """Each proposal again, against a later look: validated, or dropped with the reason.

    Args:
        planned: as `plan_consolidation` answered them.
        loads: all nodes, looked at anew.
        recent: what was disrupted, until now.
        policy: of the proposals.
        fits: as for the plan.
        now: moment of the second look.
    """
    found = []
    validated: list[ConsolidationProposal] = []
    for one in planned:
        against = [*recent, *as_disruptions(validated, now)]
        gone = {name for other in validated for name in other.nodes}
        here = [load for load in loads if load.node.region == one.region]
        again, wrong = _again(one, here, gone, against, policy, fits, now)
        if wrong:
            found.append(one._replace(standing=Standing.DROPPED.value, reason=wrong, looked_at=now))
        else:
            kept = again._replace(standing=Standing.VALIDATED.value)
            validated.append(kept)
            found.append(kept)
    return found


def _again(
    one: ConsolidationProposal,
    loads: Sequence[NodeLoad],
    gone: set[str],
    recent: Sequence[Disruption],
    policy: ConsolidationPolicy,
    fits: Fits,
    now: datetime,
) -> tuple[ConsolidationProposal, str]:
    """The proposal by the second look, and what is wrong with it ('' for nothing)."""
    if now - one.looked_at < timedelta(seconds=policy.validate_after_s):
        return one, f"looked at again before {policy.validate_after_s:g} s had passed"
    wrong = _changed(one, loads, resting_nodes(recent, policy, now), policy, now)
    left = allowance(policy.budgets, one.region, len(loads), reason_of(one.kind), recent, now)
    if wrong or left.nodes < len(one.nodes):
        return one, wrong or left.reason
    chosen = [load for load in loads if load.node.node_id in one.nodes]
    away = {*one.nodes, *gone}
    staying = [load for load in loads if load.ready and load.node.node_id not in away]
    fit = fits(chosen, staying)
    if fit.shortage or not staying:
        return one, fit.shortage or "no other node is ready"
    over = over_workload_budget(loads, fit, recent, policy, now)
    if over:
        return one, over
    again = make_proposal(Kind(one.kind), one.region, chosen, loads, fit, now)
    low = again.score is not None and again.score < policy.score_min
    return again, f"score {again.score:.2f} is below {policy.score_min:g} now" if low else ""


def _changed(
    one: ConsolidationProposal,
    loads: Sequence[NodeLoad],
    resting: frozenset[str],
    policy: ConsolidationPolicy,
    now: datetime,
) -> str:
    """What has changed of the nodes since the first look, in words; '' for nothing that counts."""
    by_id = {load.node.node_id: load for load in loads}
    for name in one.nodes:
        load = by_id.get(name)
        if load is None or not load.ready:
            return f"{name} is gone, or not ready"
        if not is_candidate(load, resting, policy, now):
            return f"{name} has started anew, or taken agents in"
        if one.kind == Kind.EMPTY and load.agents:
            return f"{name} has {len(load.agents)} agents now"
    return ""


def carried_out(
    past: Iterable[ConsolidationProposal], loads: Iterable[NodeLoad]
) -> list[Disruption]:
    """Which nodes of earlier validated proposals have since been emptied or given back.

    A node that is still there with its agents was never disturbed, however often it was proposed.

    Args:
        past: proposals of earlier looks, in any order.
        loads: all nodes as they are now.
    """
    present = {load.node.node_id: load for load in loads}
    found: dict[str, Disruption] = {}
    for one in past:
        if one.standing != Standing.VALIDATED:
            continue
        for node_id in one.nodes:
            load = present.get(node_id)
            gone = load is None or not load.ready
            emptied = load is not None and one.kind != Kind.EMPTY and not load.agents
            known = found.get(node_id)
            if (gone or emptied) and (known is None or known.at < one.looked_at):
                found[node_id] = disruption_of(one, node_id, one.looked_at)
    return sorted(found.values(), key=lambda one: (one.at, one.node_id))
