"""What `stateroom up` writes into the control store: the declared fleet and its first placements.

Idempotent, and resumable after a crash at any step: each step is one transaction that brings one
kind of rows to what is declared, and the next run does what is missing. A second `up` finds
everything in place and continues with the same agents, epochs and states.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fleet.agents import Placement, Workload
from fleet.inventory import NodePhase
from fleet.leases import LEADER_LEASE
from fleet.operator_orders import marked_nodes
from fleet.placement.quotas import NetworkLimits
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, NodeDeclaration
from fleet.rescaling.standing import HOLD, ScaledAgent
from fleet.scaling import is_scaled_away
from resources.placing import place_waiting


def declare_fleet(
    store: ControlStore,
    nodes: Sequence[NodeDeclaration],
    workloads: Sequence[Workload],
    agents: Sequence[AgentDeclaration],
    clock: Clock,
    limits: Sequence[NetworkLimits] = (),
    scaled: Collection[str] = (),
) -> list[Placement]:
    """Bring the store to what is declared, and place the agents that have no node.

    Nodes and agents that are not declared any more are retired; states of retired agents stay, and
    are theirs again when they come back. A workload that is scaled, or whose number a person holds,
    keeps its agents, those that were scaled away too: what is declared of it is where it begins.
    Once it is scaled no more, the declared number holds again.

    Args:
        store: the control store.
        nodes: all nodes of the fleet.
        workloads: all workloads.
        agents: all agents.
        clock: stamps the placements.
        limits: quotas and limits of networks; those that are not named have none.
        scaled: workloads whose number rescaling decides.

    Returns:
        The placements that were made or changed, with their new epochs; empty on a second call.
    """
    held = {one.workload for one in store.scaling_orders() if one.kind == HOLD}
    kept = {*scaled, *held} & {one.workload for one in workloads}
    agents = with_scaled(agents, store.scaled_agents(sorted(kept)), kept)
    node_ids = {node.node_id for node in nodes}
    agent_ids = {agent.agent_id for agent in agents}
    store.declare_nodes(nodes)
    store.declare_workloads(workloads)
    store.declare_network_limits(limits)
    store.declare_agents(agents)
    undeclared = [a.agent_id for a in store.agents() if a.agent_id not in agent_ids]
    if undeclared:
        store.retire_agents(undeclared)
    store.place_agents(_begun_again(store.placements(), agents, kept, clock))
    retired = [node.node_id for node in store.nodes() if node.node_id not in node_ids]
    placed = _place(store, node_ids, clock, retired, agents)
    # Last, so that no agent is ever placed on a node that does not exist.
    if retired:
        store.retire_nodes(retired)
    return placed


def with_scaled(
    declared: Sequence[AgentDeclaration],
    present: Sequence[ScaledAgent],
    scaled: Collection[str],
) -> list[AgentDeclaration]:
    """What is declared, with the agents that a scaled workload has by now in place of its own.

    They take the declared shape; a region in which there are none yet begins with those declared.

    Args:
        declared: all agents of the settings.
        present: agents of scaled workloads, as the store has them.
        scaled: workloads whose number is not the settings'.
    """
    shapes: dict[tuple[str, str], AgentDeclaration] = {}
    for agent in declared:
        if agent.workload in scaled:
            shapes.setdefault((agent.workload, agent.region), agent)
    there = {(one.agent.workload, one.home) for one in present}
    kept = [agent for agent in declared if (agent.workload, agent.region) not in there]
    for one in present:
        shape = shapes.get((one.agent.workload, one.home))
        if shape is not None:
            kept.append(shape._replace(agent_id=one.agent.agent_id))
    return sorted(kept)


def _begun_again(
    placements: Sequence[Placement],
    agents: Sequence[AgentDeclaration],
    scaled: Collection[str],
    clock: Clock,
) -> list[Placement]:
    """Agents that were scaled away, of workloads that are scaled no more: they are to run again."""
    declared = {agent.agent_id for agent in agents}
    reason = "declared, and scaled no more"
    return [
        one._replace(desired="running", reason=reason, updated_at=clock.now())
        for one in placements
        if one.desired == "stopped"
        and one.workload not in scaled
        and one.agent_id in declared
        and is_scaled_away(one)
    ]


def place_unplaced(store: ControlStore, clock: Clock) -> list[Placement]:
    """Place the agents of the store that wait for a node; nodes that have gone silent take none.

    Returns:
        The placements that were made or changed, with their new epochs, ordered by agent_id.
    """
    silent = {NodePhase.UNKNOWN, NodePhase.STOPPED, NodePhase.TERMINATED}
    alive = [node.node_id for node in store.nodes() if node.phase not in silent]
    return _place(store, alive, clock)


def _place(
    store: ControlStore,
    node_ids: Collection[str],
    clock: Clock,
    left: Collection[str] = (),
    declared: Sequence[AgentDeclaration] | None = None,
) -> list[Placement]:
    """Place what waits, under the last leader's term; nobody goes to what is being worked on.

    With a lower one the store refuses an agent that a leader has placed since, also one that was
    retired and is declared again, whose old row nobody sees.
    """
    lease, now = store.lease(LEADER_LEASE), clock.now()
    term = 0 if lease is None else lease.term
    marks = store.maintenances()
    if marks:
        node_ids = {*node_ids} - marked_nodes(store.nodes(), marks, now)
    outcome = place_waiting(store, node_ids, now=now, term=term, left_nodes=left, declared=declared)
    return sorted([*outcome.placed, *outcome.parked])
