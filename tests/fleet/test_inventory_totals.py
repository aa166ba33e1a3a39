"""Totals cover what was read, and say how much that was."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet.heartbeats import HeartbeatPolicy
from fleet.inventory import Agent, AgentPhase, AgentStateInfo, Node, NodePhase
from fleet.inventory_totals import total_agents, total_gpus, total_nodes, total_states
from tests.fleet.inventory_records import AGENTS, NODES, NOW, a_gpu, a_node, an_agent


@given(st.lists(NODES, max_size=6), st.lists(AGENTS, max_size=9))
def test_every_node_and_agent_is_counted_in_exactly_one_class(
    nodes: list[Node], agents: list[Agent]
) -> None:
    """The classes add up, and so do the capacities."""
    totals = total_nodes(nodes, NOW, HeartbeatPolicy())
    kinds = ("ready", "late", "lost", "pending", "stopped")
    assert sum(totals[f"nodes_{kind}"] for kind in kinds) == totals["nodes"] == len(nodes)
    assert totals["capacity_cpu_milli"] == sum(node.cpu_milli for node in nodes)
    phases = total_agents(agents, nodes)
    assert sum(phases[f"agents_{phase}"] for phase in AgentPhase) == len(agents)


def test_allocations_are_given_with_their_share_of_the_capacity() -> None:
    """Only agents that hold something count; no capacity means a share of 0."""
    agents = [an_agent("a1", cpu_milli=500), an_agent("a2", phase=AgentPhase.FAILED)]
    totals = total_agents(agents, [a_node(cpu_milli=2000)])
    assert totals["allocated_cpu_milli"] == 500
    assert totals["allocated_cpu_milli_percent"] == 25.0
    assert totals["allocated_gpu_milli_percent"] == 0.0


def test_an_absent_reading_is_not_a_zero() -> None:
    """The mean is over the GPUs that gave a value, and their number is told."""
    gpus = [a_gpu("G1", utilization_percent=80.0, memory_used_bytes=7), a_gpu("G2", lost=True)]
    assert total_gpus(gpus) == {
        "gpus": 2,
        "gpus_lost": 1,
        "gpus_with_memory_reading": 1,
        "gpu_memory_used_bytes": 7,
        "gpus_with_utilization_reading": 1,
        "gpu_utilization_mean_percent": 80.0,
    }


def test_the_oldest_heartbeat_is_that_of_a_node_that_should_send_one() -> None:
    """A node stopped on request is not waited for."""
    stopped = a_node("n2", phase=NodePhase.STOPPED, heartbeat_at=NOW - timedelta(days=9))
    totals = total_nodes([a_node(), stopped], NOW, HeartbeatPolicy())
    assert totals["oldest_heartbeat_s"] == 1.0


def test_states_are_totalled_by_bytes_and_age() -> None:
    """A state from the future counts as age 0."""
    old = AgentStateInfo("a1", "net", "us", 3, 1, 10, "d", NOW - timedelta(seconds=9))
    new = AgentStateInfo("a2", "net", "us", 1, 1, 30, "d", NOW + timedelta(seconds=9))
    totals = total_states([old, new], NOW)
    assert totals == {
        "states": 2,
        "state_bytes": 40,
        "largest_state_bytes": 30,
        "oldest_state_s": 9.0,
    }
    assert total_states([], NOW)["oldest_state_s"] == 0.0


def test_an_empty_region_has_totals_of_zero() -> None:
    """No item is no error."""
    assert set(total_nodes([], NOW, HeartbeatPolicy()).values()) == {0}
    assert set(total_agents([], []).values()) == {0}
    assert set(total_gpus([]).values()) == {0}
