"""What the planner of placements says of agents that would have to leave their nodes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from fleet.consolidation.records import FitTerms, NodeLoad, RulesByWorkload
from fleet.placement.node_pool import NodePool, take_present
from fleet.placement.planning import PlacementProblem, Present, plan_placements
from fleet.placement.quotas import QuotaLedger
from fleet.placement.requests import NO_RULES, AgentSize, PlacementRequest, size_of
from fleet.reports import AgentDeclaration, NodeDeclaration


def placer_refusal(
    emptied: Sequence[NodeLoad],
    staying: Sequence[NodeLoad],
    headroom_ratio: float,
    terms: FitTerms,
) -> str:
    """What the planner of placements would refuse, in words; '' when it places everybody.

    Args:
        emptied: nodes whose agents look for a place.
        staying: nodes of the same region that may take them.
        headroom_ratio: of each node that stays, which is kept free.
        terms: rules, limits and what is in use.
    """
    classes: dict[tuple[object, ...], list[AgentDeclaration]] = defaultdict(list)
    used = dict(terms.used)
    for load in emptied:
        for agent in load.agents:
            classes[agent[1:]].append(agent)
            if agent.network_id in used:  # a move uses nothing more than before
                used[agent.network_id] = used[agent.network_id].plus(agent, -1)
    if not classes:
        return ""
    problem = _problem(staying, headroom_ratio, QuotaLedger(terms.limits, used))
    requests = [
        _request(f"{number:06d}", agents, terms.rules)
        for number, (_, agents) in enumerate(sorted(classes.items(), key=lambda pair: pair[1][0]))
    ]
    for planned in plan_placements(requests, problem):
        if planned.refusal:
            wanted = planned.request
            return f"{planned.left} of {wanted.workload} could not be placed: {planned.refusal}"
    return ""


def _problem(
    staying: Sequence[NodeLoad], headroom_ratio: float, quotas: QuotaLedger
) -> PlacementProblem:
    """The nodes that stay, with what they hold."""
    loads = {load.node.node_id: load for load in staying}
    regions: dict[str, list[NodeDeclaration]] = defaultdict(list)
    for load in staying:
        regions[load.node.region].append(_without_headroom(load.node, headroom_ratio))
    pools = {region: NodePool(region, nodes) for region, nodes in regions.items()}
    taken: dict[tuple[str, AgentSize], Counter[int]] = defaultdict(Counter)
    present: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for region, pool in pools.items():
        for name, row in pool.rows.items():
            for agent in loads[name].agents:
                taken[region, size_of(agent)][row] += 1
                present[region, agent.workload][row] += 1
    take_present(pools, taken)
    columns = {
        key: Present(
            np.fromiter(rows, np.int64, len(rows)), np.fromiter(rows.values(), np.int64, len(rows))
        )
        for key, rows in present.items()
    }
    return PlacementProblem(pools, quotas, columns)


def _without_headroom(node: NodeDeclaration, ratio: float) -> NodeDeclaration:
    """The node as a plan may fill it; its devices are asked by `fit_into_rooms`."""
    return node._replace(
        cpu_milli=int(node.cpu_milli * (1 - ratio)),
        memory_bytes=int(node.memory_bytes * (1 - ratio)),
        # 0 would mean that it is not limited
        bandwidth_bps=max(1, int(node.bandwidth_bps * (1 - ratio))) if node.bandwidth_bps else 0,
    )


def _request(
    name: str, agents: Sequence[AgentDeclaration], rules: RulesByWorkload
) -> PlacementRequest:
    one = agents[0]
    return PlacementRequest(
        name=name,
        region=one.region,
        size=size_of(one),
        agents=len(agents),
        priority=one.priority,
        rules=rules.get((one.network_id, one.workload), NO_RULES),
        network_id=one.network_id,
        workload=one.workload,
    )
