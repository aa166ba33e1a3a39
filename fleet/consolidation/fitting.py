"""Whether agents of emptied nodes find room: asked of both planners that would have to find it.

What carries a proposal out is a failover of each node, which deals agents over the rooms of the
others. What places an agent that is parked on the way is the planner of placements, which knows
gangs, zones, quotas and limits, and refuses what breaks them. A proposal stands only where both
agree, so nobody is moved for a saving whom the placer would then leave without a node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from fleet.consolidation.records import NO_TERMS, Fit, Fits, FitTerms, NodeLoad, RulesByWorkload
from fleet.placement.requests import NO_RULES
from fleet.reports import AgentDeclaration
from fleet.rooms import Room, Shape, deal, few, shape_of
from fleet.workload_budgets import count_disturbed


def fit_as_placed(headroom_ratio: float, terms: FitTerms = NO_TERMS) -> Fits:
    """Fit agents where a failover would deal them, as far as the placer would let them stay.

    A network that is over its quota, and an agent outside of the limits of its network, are left
    where they are: once parked, the placer would not let them come back.

    Args:
        headroom_ratio: of each node that stays.
        terms: as the control store has them at this look.
    """
    # plans in numpy, which nobody pays for who only reads definitions
    from fleet.consolidation.placer_refusal import placer_refusal

    dealt = fit_into_rooms(headroom_ratio, terms.rules)

    def fits(emptied: Sequence[NodeLoad], staying: Sequence[NodeLoad]) -> Fit:
        fit = dealt(emptied, staying)
        lacking = (
            fit.shortage
            or placer_refusal(emptied, staying, headroom_ratio, terms)
            or _lost_spread(emptied, staying, fit.moves, terms.rules)
        )
        if lacking:
            return Fit({}, lacking)
        moving = [(load.node.node_id, agent) for load in emptied for agent in load.agents]
        region = [agent for load in (*emptied, *staying) for agent in load.agents]
        return fit._replace(disturbed=tuple(count_disturbed(moving, region, terms.rules)))

    return fits


def fit_into_rooms(headroom_ratio: float, rules: RulesByWorkload | None = None) -> Fits:
    """Fit agents as a failover deals them, keeping a share of every node free.

    What is left on a node is computed once: a plan asks about the same nodes some thirty times.

    Args:
        headroom_ratio: of each node that stays.
        rules: GPU models that agents may run on; absent ones take any.
    """
    known: dict[int, tuple[NodeLoad, Room]] = {}
    asked = rules or {}

    def shape(agent: AgentDeclaration) -> Shape:
        return shape_of(agent, asked.get((agent.network_id, agent.workload), NO_RULES))

    def room_of(load: NodeLoad) -> Room:
        # kept with its load, so that no other can get the same id
        if id(load) not in known:
            room = Room(load.node, headroom_ratio)
            for agent in load.agents:
                room.take(shape(agent))
            known[id(load)] = (load, room)
        return known[id(load)][1].copy()

    def fits(emptied: Sequence[NodeLoad], staying: Sequence[NodeLoad]) -> Fit:
        rooms = [room_of(load) for load in staying]
        shapes: dict[Shape, list[AgentDeclaration]] = defaultdict(list)
        for load in emptied:
            for agent in load.agents:
                shapes[shape(agent)].append(agent)
        moves: dict[str, str] = {}
        for one in sorted(shapes, key=_size, reverse=True):
            found = deal(one, shapes[one], rooms)
            if found.left:
                lacking = few(found.shortages) or "no node stays"
                return Fit({}, f"{len(found.left)} of {one.workload} fit nowhere: {lacking}")
            moves |= {agent.agent_id: room.node.node_id for agent, room, _ in found.placed}
        return Fit(moves, "")

    return fits


def _size(shape: Shape) -> tuple[int, int, int, Shape]:
    """Large agents first: the small ones fill the gaps."""
    return (shape.gpu_milli, shape.memory_bytes, shape.cpu_milli, shape)


def _lost_spread(
    emptied: Sequence[NodeLoad],
    staying: Sequence[NodeLoad],
    moves: Mapping[str, str],
    rules: RulesByWorkload,
) -> str:
    """Which workload would stand less evenly over the zones than now; '' for none.

    A zone whose last node goes counts as one without agents.
    """
    zones = sorted({load.node.zone for load in (*emptied, *staying)})
    zone_of = {load.node.node_id: load.node.zone for load in staying}
    before: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    after: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for load in staying:
        for key in _spread_workloads(load.agents, rules):
            before[key][load.node.zone] += 1
            after[key][load.node.zone] += 1
    for load in emptied:
        for agent in load.agents:
            for key in _spread_workloads([agent], rules):
                before[key][load.node.zone] += 1
                after[key][zone_of[moves[agent.agent_id]]] += 1
    for key in sorted(after):
        was, is_now = _skew(before[key], zones), _skew(after[key], zones)
        if is_now > max(1, was):
            return f"{key[1]} would be spread over the zones with a skew of {is_now}, not {was}"
    return ""


def _spread_workloads(
    agents: Iterable[AgentDeclaration], rules: RulesByWorkload
) -> Iterable[tuple[str, str]]:
    """The workload of each agent that is to be spread."""
    for agent in agents:
        key = (agent.network_id, agent.workload)
        if rules.get(key, NO_RULES).spread_zones:
            yield key


def _skew(counts: Mapping[str, int], zones: Sequence[str]) -> int:
    numbers = [counts.get(zone, 0) for zone in zones]
    return max(numbers) - min(numbers)
