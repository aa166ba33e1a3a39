"""A change of scale on a fleet whose wishes stand in the control store, as all our fleets' do.

Read once, planned for all workloads together, committed by `ScalingStore.apply_scales`; then the
agents that are new, or that lost their node, are placed. Killed before the commit nothing has
changed; killed behind it the agents wait, visibly, until the same call is made again.

Agents that are to go are asked first, while their epoch still counts, so that they can save what
they know. Killed in between, they are down and still wanted: not ready, and so the first to go with
the next plan. Where the change is refused, they are placed anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from fleet.agents import Placement
from fleet.inventory import AgentPhase, Node, NodePhase
from fleet.ports.clock import Clock
from fleet.ports.cluster import ScaleWish
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration
from fleet.rescaling.standing import ScaleChange, ScaledAgent, ScaleResult
from fleet.rescaling.stop_order import StopFacts
from fleet.scaling import plan_scale

LetGo = Callable[[Sequence[Placement]], None]
"""Asks agents to save and end; returns when they have, or cannot be asked."""

NodesOf = Callable[[str], Iterable[Node]]
"""Nodes of a region as the cluster sees them."""


def rescale_in_store(
    store: ControlStore,
    clock: Clock,
    wishes: Sequence[ScaleWish],
    sessions: Mapping[str, int],
    nodes_of: NodesOf,
    term: int,
    let_go: LetGo | None = None,
) -> list[ScaleResult]:
    """See `fleet.ports.cluster.FleetScaler.rescale`.

    Args:
        store: holds the wishes.
        clock: stamps placements.
        wishes: each workload and region once.
        sessions: open sessions by agent.
        nodes_of: says which nodes can run agents.
        term: of the rescaling lease.
        let_go: asks agents to end in order; None: their nodes stop them by the commit alone.
    """
    from resources.local.fleet_declaration import place_unplaced  # plans in numpy

    by_name = _by_workload(store.scaled_agents(sorted({one.workload for one in wishes})))
    nodes = {
        node.node_id: node
        for region in sorted({one.region for one in wishes})
        for node in nodes_of(region)
    }
    facts = _facts(store, by_name, nodes, sessions, {one.region for one in wishes})
    alive = {name for name, node in nodes.items() if node.phase is NodePhase.RUNNING}
    changes = [_change(one, by_name.get(one.workload, ()), facts, alive, clock) for one in wishes]
    going = {one.key: _going(one, by_name.get(one.workload, ())) for one in changes}
    store.demand_scaling_term(term)  # before anybody is asked to end
    if let_go is not None and any(going.values()):
        let_go([placed for one in going.values() for placed in one])
    results = store.apply_scales(changes, term=term)
    called_off = [
        placed for one in results if not one.made for placed in going[one.workload, one.region]
    ]
    if let_go is not None and called_off:
        reason, now = "asked to end, and wanted all the same", clock.now()
        store.place_agents([one._replace(reason=reason, updated_at=now) for one in called_off])
    _revive_released(store, clock, changes, results)
    place_unplaced(store, clock)
    return results


def _revive_released(
    store: ControlStore,
    clock: Clock,
    changes: Iterable[ScaleChange],
    results: Iterable[ScaleResult],
) -> None:
    """Who gave its room back between plan and commit waits for a place, like others that have.

    Its epoch has risen by that, so the change did not find it. Killed before this, the next look
    finds one agent too few.
    """
    stored = {one.agent_id for result in results for one in result.placed}
    made = {(one.workload, one.region) for one in results if one.made}
    missed = {
        placed.agent_id: placed
        for one in changes
        if one.key in made
        for placed in one.placements
        if placed.desired == "running" and placed.agent_id not in stored
    }
    if not missed:
        return
    now = clock.now()
    store.place_agents(
        [
            one._replace(desired="running", reason=missed[one.agent_id].reason, updated_at=now)
            for one in store.placements()
            if one.agent_id in missed and one.desired == "stopped" and not one.node_id
        ]
    )


def _going(change: ScaleChange, family: Iterable[ScaledAgent]) -> list[Placement]:
    """Placements, as they are in force, of agents that the change stops."""
    stopped = {one.agent_id for one in change.placements if one.desired == "stopped"}
    return [
        one.placement
        for one in family
        if one.agent.agent_id in stopped
        and one.placement is not None
        and one.placement.desired == "running"
        and one.placement.node_id
    ]


def _by_workload(agents: Iterable[ScaledAgent]) -> dict[str, list[ScaledAgent]]:
    found = defaultdict(list)
    for one in agents:
        found[one.agent.workload].append(one)
    return found


def _change(
    wish: ScaleWish,
    family: Iterable[ScaledAgent],
    facts: Mapping[str, StopFacts],
    alive: set[str],
    clock: Clock,
) -> ScaleChange:
    agents: dict[str, AgentDeclaration] = {}
    placements: dict[str, Placement] = {}
    for one in family:
        agents[one.agent.agent_id] = one.declaration
        if one.placement is not None:
            placements[one.agent.agent_id] = one.placement
    plan = plan_scale(
        wish.workload,
        wish.region,
        wish.replicas,
        agents,
        placements,
        clock.now(),
        facts=facts,
        nodes=alive,
    )
    return ScaleChange(
        wish.workload,
        wish.region,
        wish.scales,
        tuple(plan.declared),
        tuple(plan.changed),
        wish.state,
        wish.reason,
    )


def _facts(
    store: ControlStore,
    by_name: Mapping[str, Sequence[ScaledAgent]],
    nodes: Mapping[str, Node],
    sessions: Mapping[str, int],
    regions: Iterable[str],
) -> dict[str, StopFacts]:
    """What is known of each agent that may have to go."""
    on_gpus = any(one.agent.gpu_milli for family in by_name.values() for one in family)
    free = _free_gpus(store, nodes, regions) if on_gpus else {}
    return {
        one.agent.agent_id: StopFacts(
            ready=one.agent.phase is AgentPhase.RUNNING,
            started_at=one.agent.started_at,
            sessions=sessions.get(one.agent.agent_id),
            gpu_free_milli=free.get(one.agent.node_id, 0),
        )
        for family in by_name.values()
        for one in family
    }


def _free_gpus(
    store: ControlStore, nodes: Mapping[str, Node], regions: Iterable[str]
) -> dict[str, int]:
    """Thousandths of GPUs that no agent is allocated, by node; nodes without GPUs absent."""
    free = {name: 1000 * node.gpu_count for name, node in nodes.items() if node.gpu_count}
    for region in sorted(regions):
        for agent in store.agents(region):
            if agent.node_id in free and agent.phase is not AgentPhase.STOPPED:
                free[agent.node_id] -= agent.gpu_milli
    return free
