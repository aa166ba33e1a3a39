"""What `stateroom up` writes into the control store: the declared fleet and its first placements.

Idempotent, and resumable after a crash at any step: each step is one transaction that brings one
kind of rows to what is declared, and the next run does what is missing. A second `up` finds
everything in place and continues with the same agents, epochs and states.
"""

from __future__ import annotations

from collections.abc import Sequence

from fleet.agents import Placement, Workload
from fleet.inventory import Agent, Node
from fleet.leases import LEADER_LEASE
from fleet.placement import plan_initial_placements
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, NodeDeclaration


def declare_fleet(
    store: ControlStore,
    nodes: Sequence[NodeDeclaration],
    workloads: Sequence[Workload],
    agents: Sequence[AgentDeclaration],
    clock: Clock,
) -> list[Placement]:
    """Bring the store to what is declared, and place the agents that have no node.

    Nodes and agents that are not declared any more are retired; states of retired agents stay, and
    are theirs again when they come back.

    Args:
        store: the control store.
        nodes: all nodes of the fleet.
        workloads: all workloads.
        agents: all agents.
        clock: stamps the placements.

    Returns:
        The placements that were made or changed, with their new epochs; empty on a second call.
    """
    node_ids = {node.node_id for node in nodes}
    agent_ids = {agent.agent_id for agent in agents}
    store.declare_nodes(nodes)
    store.declare_workloads(workloads)
    store.declare_agents(agents)
    undeclared = [a.agent_id for a in store.agents() if a.agent_id not in agent_ids]
    if undeclared:
        store.retire_agents(undeclared)
    placed = store.place_agents(_plan(store, agents, nodes, clock))
    # Last, so that no agent is ever placed on a node that does not exist.
    retired = [node.node_id for node in store.nodes() if node.node_id not in node_ids]
    if retired:
        store.retire_nodes(retired)
    return placed


def place_unplaced(store: ControlStore, clock: Clock) -> list[Placement]:
    """Place the agents of the store that have no node, as at the start of the fleet.

    Returns:
        The placements that were made, with their new epochs.
    """
    agents = [declaration_of(agent) for agent in store.agents()]
    nodes = [_node_declaration(node) for node in store.nodes()]
    return store.place_agents(_plan(store, agents, nodes, clock))


def _plan(
    store: ControlStore,
    agents: Sequence[AgentDeclaration],
    nodes: Sequence[NodeDeclaration],
    clock: Clock,
) -> list[Placement]:
    """What to place, under the last leader's term.

    With a lower one the store refuses an agent that a leader has placed since, also one that was
    retired and is declared again, whose old row nobody sees.
    """
    lease = store.lease(LEADER_LEASE)
    term = 0 if lease is None else lease.term
    return plan_initial_placements(agents, nodes, store.placements(), now=clock.now(), term=term)


def declaration_of(agent: Agent) -> AgentDeclaration:
    """The shape of an agent, at home in the region where it is placed."""
    return AgentDeclaration(
        agent_id=agent.agent_id,
        network_id=agent.network_id,
        workload=agent.workload,
        region=agent.region,
        cpu_milli=agent.cpu_milli,
        memory_bytes=agent.memory_bytes,
        bandwidth_bps=agent.bandwidth_bps,
        gpu_milli=agent.gpu_milli,
        gpu_memory_bytes=agent.gpu_memory_bytes,
        priority=agent.priority,
    )


def _node_declaration(node: Node) -> NodeDeclaration:
    return NodeDeclaration(
        node_id=node.node_id,
        region=node.region,
        zone=node.zone,
        cpu_milli=node.cpu_milli,
        memory_bytes=node.memory_bytes,
        bandwidth_bps=node.bandwidth_bps,
        gpu_count=node.gpu_count,
        gpu_memory_bytes=node.gpu_memory_bytes,
        gpu_model=node.gpu_model,
    )
