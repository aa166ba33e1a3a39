"""Plan where the agents of an order go, and write all of it down before anything is moved."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from fleet.agents import Placement
from fleet.failover_moves import PLAN, PlannedMove, batches, encode_plan, planned, read_plans
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.inventory import Agent, NodePhase
from fleet.placement.parking import NO_NODE
from fleet.placement.requests import rules_of
from fleet.relocation import RelocationTargets, plan_relocation
from fleet.reports import NodeDeclaration, declaration_of, node_declaration_of
from ops.failover_ports import FailoverPorts
from ops.step_journal import Step

WAITING_ATTEMPTS = 4
"""In so many attempts an agent whose only places are on nodes that are down or in doubt stays put.

Parking is for good, until a person comes. A neighbour's probation lasts seconds, and a neighbour
that is lost as well makes it a matter of the region, whose evacuation takes along whoever is still
placed there. Attempts follow each other by `move_retry_s`; the next one parks, so nobody waits for
what does not end.
"""


class Proposal(NamedTuple):
    """What a plan would be now."""

    moves: list[PlannedMove]
    """One for each agent that would move or be parked, ordered by agent."""
    waiting: frozenset[str]
    """Agents that would stay where they are, and be asked for again."""
    hoping: frozenset[str]
    """Agents that have no place now and would have one if every node were well; those of them that
    do not wait (by force, or after `WAITING_ATTEMPTS`) are parked."""
    doubted: tuple[str, ...]
    """Nodes that are down or in doubt and would have room for them, sorted."""


class _Fleet(NamedTuple):
    """What a plan is made from, read once."""

    agents: Mapping[str, Agent]
    targets: Sequence[NodeDeclaration]
    doubted: Sequence[NodeDeclaration]
    """Down or not trusted, in the same regions: they take nobody in for now."""
    placements: Mapping[str, Placement]
    leaving: Sequence[Placement]


def plan(ports: FailoverPorts, order: FailoverOrder, nodes: Iterable[str]) -> list[PlannedMove]:
    """Plan where the agents of these nodes go, and write all of it down before anything is done.

    Args:
        ports: the world.
        order: what is ordered.
        nodes: those that are fenced; of a fail-back none.

    Returns:
        The moves of this attempt, ordered by agent; when it had been planned before, those, as far
        as their nodes are still left. Who waits for a doubted node (`WAITING_ATTEMPTS`) is not
        among them, and stays where it is.
    """
    before = planned_before(ports, order)
    if before is not None:  # this attempt died after it had planned
        return _still_planned(ports, order, before, frozenset(nodes))
    fleet = _read_fleet(ports, order, frozenset(nodes))
    proposed = _moves(ports, order, fleet, fleet.targets)
    waiting = _waiting(ports, order, fleet, proposed)
    moves = [one for one in proposed if one.agent_id not in waiting]
    told_waiting = f", {len(waiting)} wait for a node that is down or in doubt" if waiting else ""
    steps = {}
    for number, batch in enumerate(batches(moves) or [[]]):
        parked = sum(one.node_id == NO_NODE for one in batch)
        reason = f"{len(batch) - parked} agents have a place, {parked} have none{told_waiting}"
        steps[_plan_step(order, f"{number:04d}")] = Step(reason, {"moves": encode_plan(batch)})
    ports.journal(order).record(steps)
    return moves


def planned_before(ports: FailoverPorts, order: FailoverOrder) -> list[PlannedMove] | None:
    """What an earlier try of this attempt has planned, ordered by agent; None when none has."""
    begins = _plan_step(order, "")
    told = [one for one in ports.journal(order).entries() if one.step.startswith(begins)]
    return read_plans(told) if told else None


def propose(ports: FailoverPorts, order: FailoverOrder, nodes: Iterable[str]) -> Proposal:
    """Plan where the agents of these nodes go; nothing is written down, nothing is moved.

    Args:
        ports: the world; only looked at.
        order: what is, or would be, ordered.
        nodes: those that are left; of a fail-back none.

    Returns:
        What `plan` would write down now. In a fail-back who has no place is left out, because it
        runs where it is.
    """
    fleet = _read_fleet(ports, order, frozenset(nodes))
    proposed = _moves(ports, order, fleet, fleet.targets)
    hoped = _hoped(ports, order, fleet, proposed)
    waiting = frozenset(hoped) if _may_wait(order) else frozenset[str]()
    names = {one.node_id for one in fleet.doubted}
    return Proposal(
        [one for one in proposed if one.agent_id not in waiting],
        waiting,
        frozenset(hoped),
        tuple(sorted(names & set(hoped.values()) or names)) if hoped else (),
    )


def _moves(
    ports: FailoverPorts, order: FailoverOrder, fleet: _Fleet, targets: Sequence[NodeDeclaration]
) -> list[PlannedMove]:
    rules = {one.workload: rules_of(one) for one in ports.store.workloads()}
    moves = planned(
        plan_relocation(
            fleet.leaving,
            fleet.placements.values(),
            {agent_id: declaration_of(one) for agent_id, one in fleet.agents.items()},
            RelocationTargets(
                targets, order.regions, order.head_room, order.kind == OrderKind.NODE, rules
            ),
            because=order.because,
            now=ports.clock.now(),
            term=order.term,
        )
    )
    if order.kind == OrderKind.FAIL_BACK or order.stateless_only:
        return [one for one in moves if one.node_id != NO_NODE]
    return moves


def _waiting(
    ports: FailoverPorts, order: FailoverOrder, fleet: _Fleet, moves: Sequence[PlannedMove]
) -> AbstractSet[str]:
    """Agents without a place that would have one if every node were well.

    Not in an order by force: whoever gave it has seen who would be parked, and wants the node left.
    """
    return _hoped(ports, order, fleet, moves).keys() if _may_wait(order) else frozenset()


def _may_wait(order: FailoverOrder) -> bool:
    return not order.forced and order.attempt <= WAITING_ATTEMPTS


def _hoped(
    ports: FailoverPorts, order: FailoverOrder, fleet: _Fleet, moves: Sequence[PlannedMove]
) -> dict[str, str]:
    """Agents without a place, and where they would go if every node were well."""
    parked = {one.agent_id for one in moves if one.node_id == NO_NODE}
    if not parked or not fleet.doubted:
        return {}
    hoped = _moves(ports, order, fleet, [*fleet.targets, *fleet.doubted])
    return {
        one.agent_id: one.node_id
        for one in hoped
        if one.agent_id in parked and one.node_id != NO_NODE
    }


def _still_planned(
    ports: FailoverPorts, order: FailoverOrder, moves: list[PlannedMove], left: frozenset[str]
) -> list[PlannedMove]:
    """What an earlier try planned, without agents of nodes that have come back since.

    Those nodes hold their right to act again. What has been moved already stays in the list.
    """
    if order.kind == OrderKind.FAIL_BACK:
        return moves
    epochs = {one.agent_id: one.epoch for one in ports.store.placements()}
    return [one for one in moves if one.source in left or epochs.get(one.agent_id) != one.epoch]


def _plan_step(order: FailoverOrder, part: str) -> str:
    return f"{PLAN}/{order.label}-{part}"


def _read_fleet(ports: FailoverPorts, order: FailoverOrder, left: frozenset[str]) -> _Fleet:
    """Who leaves, and agents and whole nodes of the regions that are left or gone to."""
    placements = {one.agent_id: one for one in ports.store.placements()}
    leaving = _leaving(ports, order, placements, left)
    home = {one.region for one in placements.values() if one.node_id in left}
    regions = sorted(home | {one.region for one in leaving} | set(order.regions))
    agents = {one.agent_id: one for region in regions for one in ports.store.agents(region)}
    targets: list[NodeDeclaration] = []
    doubted: list[NodeDeclaration] = []
    avoid = set(order.avoid)
    for region in regions:
        for node in ports.cluster.nodes(region):
            if node.node_id not in left:
                well = node.phase == NodePhase.RUNNING and node.node_id not in avoid
                (targets if well else doubted).append(node_declaration_of(node))
    return _Fleet(agents, targets, doubted, placements, leaving)


def _leaving(
    ports: FailoverPorts,
    order: FailoverOrder,
    placements: Mapping[str, Placement],
    left: frozenset[str],
) -> list[Placement]:
    if order.kind == OrderKind.FAIL_BACK:
        found = ports.store.agents_abroad(order.subject)
    else:
        found = [one for one in placements.values() if one.node_id in left]
    if order.stateless_only:
        able = frozenset(ports.store.stateless_agents(sorted(left)))
        found = [one for one in found if one.agent_id in able]
    running = [one for one in found if one.desired == "running"]
    return running if order.agents_max is None else running[: order.agents_max]
