"""The first look: which nodes could be given back together, and whether it is worth it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from fleet.consolidation.records import (
    ConsolidationPolicy,
    ConsolidationProposal,
    Fit,
    Fits,
    Kind,
    NodeLoad,
    Standing,
    reason_of,
)
from fleet.costs.proposals import ProposalKind, proposal_id
from fleet.disruption_budgets import Allowance, Disruption, allowance
from fleet.workload_budgets import refuse_disturbance

CANDIDATES_MAX = 30
"""Nodes of a region that are tried one by one: the cheapest to disturb. Each costs a plan."""


def plan_consolidation(
    loads: Iterable[NodeLoad],
    recent: Sequence[Disruption],
    policy: ConsolidationPolicy,
    fits: Fits,
    now: datetime,
) -> list[ConsolidationProposal]:
    """At most one proposal of empty nodes and one of others for each region, in their order.

    Args:
        loads: all nodes of all regions.
        recent: what was disrupted, at least as far back as the longest window and `settle_s`.
        policy: of the proposals.
        fits: says where agents would go; called at most CANDIDATES_MAX times a region and once for
            each halving of `nodes_at_once`.
        now: moment of the look.
    """
    regions: dict[str, list[NodeLoad]] = defaultdict(list)
    for load in loads:
        regions[load.node.region].append(load)
    found = []
    for region in sorted(regions):
        found += _plan_region(region, regions[region], recent, policy, fits, now)
    return found


def _plan_region(
    region: str,
    loads: Sequence[NodeLoad],
    recent: Sequence[Disruption],
    policy: ConsolidationPolicy,
    fits: Fits,
    now: datetime,
) -> list[ConsolidationProposal]:
    ready = [load for load in loads if load.ready]
    resting = resting_nodes(recent, policy, now)
    candidates = sorted(
        (load for load in ready if is_candidate(load, resting, policy, now)), key=_disturbance
    )
    empty = [load for load in candidates if not load.agents]
    found = []
    allowed = allowance(policy.budgets, region, len(loads), "empty", recent, now)
    chosen = empty[: min(allowed.nodes, len(ready) - 1)]
    if chosen:
        found.append(make_proposal(Kind.EMPTY, region, chosen, loads, Fit({}, ""), now))
    planned = [*recent, *as_disruptions(found, now)]
    left = allowance(policy.budgets, region, len(loads), "underutilized", planned, now)
    loaded = [load for load in candidates if load.agents]
    staying = [load for load in ready if load not in chosen]
    other = _plan_loaded(region, loads, loaded, staying, left, planned, policy, fits, now)
    return [*found, other] if other else found


def _plan_loaded(
    region: str,
    loads: Sequence[NodeLoad],
    candidates: Sequence[NodeLoad],
    ready: Sequence[NodeLoad],
    left: Allowance,
    recent: Sequence[Disruption],
    policy: ConsolidationPolicy,
    fits: Fits,
    now: datetime,
) -> ConsolidationProposal | None:
    """Several nodes if that is possible, else one; None when it is not worth it."""

    def attempt(kind: Kind, chosen: Sequence[NodeLoad]) -> ConsolidationProposal | None:
        names = {load.node.node_id for load in chosen}
        staying = [load for load in ready if load.node.node_id not in names]
        fit = fits(chosen, staying)
        if fit.shortage or not staying or over_workload_budget(loads, fit, recent, policy, now):
            return None
        found = make_proposal(kind, region, chosen, loads, fit, now)
        return found if found.score is None or found.score >= policy.score_min else None

    best = None
    low, high = 2, min(left.nodes, policy.nodes_at_once, len(candidates))
    while low <= high:  # the most nodes that can go together, as Karpenter searches them
        middle = (low + high) // 2
        found = attempt(Kind.MULTI, candidates[:middle])
        best, low, high = (found, middle + 1, high) if found else (best, low, middle - 1)
    if best is None and left.nodes:
        tries = (attempt(Kind.SINGLE, [load]) for load in candidates[:CANDIDATES_MAX])
        best = next(filter(None, tries), None)
    return best


def over_workload_budget(
    loads: Sequence[NodeLoad],
    fit: Fit,
    recent: Sequence[Disruption],
    policy: ConsolidationPolicy,
    now: datetime,
) -> str:
    """Which budget of a workload the moves of a fit would pass, in words; '' for none.

    Args:
        loads: all nodes of the region.
        fit: who would move.
        recent: what was disrupted, or is decided to be.
        policy: has the budgets.
        now: moment of the look.
    """
    if not policy.workload_budgets or not fit.disturbed:
        return ""
    sizes = Counter((one.network_id, one.workload) for load in loads for one in load.agents)
    region, reason = loads[0].node.region, reason_of(Kind.MULTI)
    return refuse_disturbance(
        policy.workload_budgets, region, sizes, fit.disturbed, reason, recent, now
    )


def resting_nodes(
    recent: Iterable[Disruption], policy: ConsolidationPolicy, now: datetime
) -> frozenset[str]:
    """Nodes that have lately taken agents of an emptied node in."""
    since = now - timedelta(seconds=policy.settle_s)
    return frozenset(name for one in recent if one.at > since for name in one.taken_by)


def is_candidate(
    load: NodeLoad, resting: frozenset[str], policy: ConsolidationPolicy, now: datetime
) -> bool:
    """Whether a node is old enough, and has not lately taken agents in."""
    young = load.since is None or now - load.since < timedelta(seconds=policy.settle_s)
    return not young and load.node.node_id not in resting


def _disturbance(load: NodeLoad) -> tuple[int, int, float, str]:
    """Cheapest to disturb first: low priority, few agents, dear node, then by name."""
    priority = max((agent.priority for agent in load.agents), default=-1001)
    return (priority, len(load.agents), -load.price_per_hour, load.node.node_id)


def make_proposal(
    kind: Kind,
    region: str,
    chosen: Sequence[NodeLoad],
    loads: Sequence[NodeLoad],
    fit: Fit,
    now: datetime,
) -> ConsolidationProposal:
    """The proposal to give some nodes of a region back."""
    names = tuple(sorted(load.node.node_id for load in chosen))
    saving = sum(load.price_per_hour for load in chosen)
    spend = sum(load.price_per_hour for load in loads)
    moved = sum(len(load.agents) for load in chosen)
    agents = sum(len(load.agents) for load in loads)
    saving_ratio = saving / spend if spend else 0.0
    disruption_ratio = moved / agents if agents else 0.0
    score = saving_ratio / disruption_ratio if moved else None
    taken_by = tuple(sorted(set(fit.moves.values())))
    told = f"{len(names)} of {len(loads)} nodes"
    reason = f"{told} hold no agent"
    if moved:
        reason = f"{moved} agents of {told} fit on {len(taken_by)} others"
    return ConsolidationProposal(
        proposal_id(ProposalKind.CONSOLIDATION.value, ",".join(names)),
        kind.value,
        region,
        names,
        moved,
        taken_by,
        saving,
        saving_ratio,
        disruption_ratio,
        score,
        Standing.PLANNED.value,
        reason,
        now,
        tuple(map(str, fit.disturbed)),
    )


def as_disruptions(proposals: Iterable[ConsolidationProposal], now: datetime) -> list[Disruption]:
    """Proposals as if they were carried out, so that budgets count them."""
    return [disruption_of(one, node_id, now) for one in proposals for node_id in one.nodes]


def disruption_of(one: ConsolidationProposal, node_id: str, at: datetime) -> Disruption:
    """What one node of a proposal counts for in budgets."""
    disturbs = tuple(text for text in one.disturbs if text.partition(" ")[0] == node_id)
    return Disruption(node_id, one.region, reason_of(one.kind), at, one.taken_by, disturbs)
