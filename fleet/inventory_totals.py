"""An inventory in numbers, for plots: one flat dictionary for each table.

A total over readings of which some are absent covers those that are there; how many were there is
a number of its own, so that a missing reading never looks like a zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from fleet.heartbeats import HeartbeatPolicy, Readiness, classify_heartbeat
from fleet.inventory import Agent, AgentPhase, AgentStateInfo, Gpu, Node
from fleet.inventory_checks import Resources, capacity_of, sum_allocations

Numbers = dict[str, int | float]


def total_nodes(nodes: Sequence[Node], now: datetime, policy: HeartbeatPolicy) -> Numbers:
    """Nodes by readiness, their capacity, and the oldest heartbeat that should be renewed."""
    verdicts = [classify_heartbeat(node, now, policy) for node in nodes]
    readiness = Counter(verdict.readiness for verdict in verdicts)
    ages_s = [
        verdict.age_s
        for verdict in verdicts
        if verdict.age_s is not None and verdict.readiness != Readiness.STOPPED
    ]
    return {
        "nodes": len(nodes),
        **{f"nodes_{kind}": readiness[kind] for kind in Readiness},
        "oldest_heartbeat_s": max(ages_s, default=0.0),
        **_prefixed("capacity", _sum(capacity_of(node) for node in nodes)),
    }


def total_gpus(gpus: Sequence[Gpu]) -> Numbers:
    """GPUs, how many were lost, and their memory."""
    used = [gpu.memory_used_bytes for gpu in gpus if gpu.memory_used_bytes is not None]
    busy = [gpu.utilization_percent for gpu in gpus if gpu.utilization_percent is not None]
    return {
        "gpus": len(gpus),
        "gpus_lost": sum(gpu.lost for gpu in gpus),
        "gpus_with_memory_reading": len(used),
        "gpu_memory_used_bytes": sum(used),
        "gpus_with_utilization_reading": len(busy),
        "gpu_utilization_mean_percent": sum(busy) / len(busy) if busy else 0.0,
    }


def total_agents(agents: Sequence[Agent], nodes: Sequence[Node]) -> Numbers:
    """Agents by phase, what they are allocated, and its share of the nodes' capacity."""
    phases = Counter(agent.phase for agent in agents)
    allocated = _sum(sum_allocations(agents).values())
    capacity = _sum(capacity_of(node) for node in nodes)
    shares = {
        f"allocated_{field}_percent": 100.0 * used / limit if limit else 0.0
        for field, used, limit in zip(Resources._fields, allocated, capacity, strict=True)
    }
    return {
        "agents": len(agents),
        **{f"agents_{phase}": phases[phase] for phase in AgentPhase},
        "agent_restarts": sum(agent.restarts for agent in agents),
        **_prefixed("allocated", allocated),
        **shares,
    }


def total_states(states: Sequence[AgentStateInfo], now: datetime) -> Numbers:
    """Stored states, their bytes, and the age of the one written longest ago."""
    ages_s = [(now - state.updated_at).total_seconds() for state in states]
    return {
        "states": len(states),
        "state_bytes": sum(state.size_bytes for state in states),
        "largest_state_bytes": max((state.size_bytes for state in states), default=0),
        "oldest_state_s": max([0.0, *ages_s]),
    }


def _sum(amounts: Iterable[Resources]) -> Resources:
    columns = zip(*amounts, strict=True)
    return Resources(*(sum(column) for column in columns))


def _prefixed(prefix: str, amounts: Resources) -> Numbers:
    return {f"{prefix}_{field}": amount for field, amount in amounts._asdict().items()}
