"""Each check finds exactly what a slow, obvious twin finds, and says it in stable words."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet.heartbeats import HeartbeatPolicy
from fleet.inventory import Agent, AgentPhase, Node, NodePhase
from fleet.inventory_checks import (
    OFFENDERS_MAX,
    CheckVerdict,
    Offender,
    Severity,
    check_allocations,
    check_heartbeats,
    check_known_nodes,
    check_unique,
)
from tests.fleet.inventory_records import AGENTS, NODES, NOW, a_node, an_agent

SEEN = dict.fromkeys(["eu", "us", "ap"], NOW)
POLICY = HeartbeatPolicy(late_s=5.0, lost_s=10.0)
NODE_LISTS = st.lists(NODES, max_size=8)
AGENT_LISTS = st.lists(AGENTS, max_size=12)


def subjects(verdict: CheckVerdict) -> set[str]:
    """The ids that a verdict names."""
    return {offender.subject for offender in verdict.offenders}


@given(NODE_LISTS)
def test_exactly_the_ids_that_occur_twice_are_found(nodes: list[Node]) -> None:
    """Twin: count each id in the list."""
    ids = [node.node_id for node in nodes]
    verdict = check_unique(((node.node_id, node.region) for node in nodes), "node")
    twice = {node_id for node_id in ids if ids.count(node_id) > 1}
    assert subjects(verdict) == twice
    assert verdict.passed == (not twice)
    assert verdict.numbers == {"checked": len(nodes), "offenders": len(twice)}


@given(AGENT_LISTS, NODE_LISTS)
def test_exactly_the_agents_without_a_node_of_their_region_are_found(
    agents: list[Agent], nodes: list[Node]
) -> None:
    """Twin: look for the pair of node and region."""
    verdict = check_known_nodes(agents, nodes)
    homeless = [
        agent
        for agent in agents
        if not any((n.node_id, n.region) == (agent.node_id, agent.region) for n in nodes)
    ]
    assert sorted(o.subject for o in verdict.offenders) == sorted(a.agent_id for a in homeless)
    assert verdict.numbers["offenders"] == len(homeless)


@given(AGENT_LISTS, NODE_LISTS)
def test_exactly_the_nodes_allocated_beyond_their_capacity_are_found(
    agents: list[Agent], nodes: list[Node]
) -> None:
    """Twin: for each node, sum each resource over its agents that hold something."""
    nodes = list({node.node_id: node for node in nodes}.values())
    holding = [
        agent
        for agent in agents
        if agent.phase not in {AgentPhase.FAILED, AgentPhase.COMPLETED, AgentPhase.STOPPED}
    ]

    def used(node: Node, field: str) -> int:
        return sum(getattr(a, field) for a in holding if a.node_id == node.node_id)

    over = {
        node.node_id
        for node in nodes
        if used(node, "cpu_milli") > node.cpu_milli
        or used(node, "memory_bytes") > node.memory_bytes
        or (node.bandwidth_bps and used(node, "bandwidth_bps") > node.bandwidth_bps)
        or used(node, "gpu_milli") > 1000 * node.gpu_count
        or used(node, "gpu_memory_bytes") > node.gpu_memory_bytes
    }
    verdict = check_allocations(agents, nodes)
    assert subjects(verdict) == over
    assert verdict.passed == (not over)


@given(NODE_LISTS)
def test_the_heartbeat_check_passes_exactly_when_all_expected_heartbeats_are_recent(
    nodes: list[Node],
) -> None:
    """Twin: judge each node in the words of the claim."""

    def fine(node: Node) -> bool:
        if node.phase == NodePhase.STOPPED:
            return node.heartbeat_at is None or (node.heartbeat_at - NOW).total_seconds() < 5
        if node.phase == NodePhase.TERMINATED or node.heartbeat_at is None:
            return False
        return abs((NOW - node.heartbeat_at).total_seconds()) < 5

    verdict = check_heartbeats(nodes, SEEN, POLICY)
    assert verdict.passed == all(fine(node) for node in nodes)
    assert verdict.numbers["offenders"] == sum(not fine(node) for node in nodes)
    kinds = ("ready", "late", "lost", "pending", "stopped")
    assert sum(verdict.numbers[kind] for kind in kinds) == len(nodes)
    if not verdict.passed:
        assert (verdict.severity == Severity.ERROR) == bool(verdict.numbers["lost"])


@given(st.integers(0, 60), st.integers(0, 3))
def test_offenders_are_bounded_counted_exactly_and_lost_nodes_come_first(
    late: int, lost: int
) -> None:
    """A broken fleet does not break the report about it, and the worst is on top."""
    nodes = [a_node(f"late-{i}", heartbeat_at=NOW - timedelta(seconds=6)) for i in range(late)] + [
        a_node(f"z-lost-{i}", heartbeat_at=NOW - timedelta(seconds=60)) for i in range(lost)
    ]
    verdict = check_heartbeats(nodes, SEEN, POLICY)
    assert len(verdict.offenders) == min(late + lost, OFFENDERS_MAX)
    assert verdict.numbers["offenders"] == late + lost
    assert [o.subject.startswith("z-lost") for o in verdict.offenders[:lost]] == [True] * lost


def test_failed_agents_hold_nothing() -> None:
    """An agent that stays down does not keep others from its node."""
    nodes = [a_node(cpu_milli=100)]
    agents = [an_agent("a1", cpu_milli=100), an_agent("a2", cpu_milli=100)]
    assert not check_allocations(agents, nodes).passed
    agents[1] = agents[1]._replace(phase=AgentPhase.FAILED)
    verdict = check_allocations(agents, nodes)
    assert verdict.passed
    assert verdict.numbers["fullest_cpu_milli_percent"] == 100.0


def test_bandwidth_is_enforced_only_where_it_is_declared() -> None:
    """Capacity 0 means none is declared for bandwidth, and none at all for GPUs."""
    agents = [an_agent(bandwidth_bps=10)]
    assert check_allocations(agents, [a_node(bandwidth_bps=0)]).passed
    assert not check_allocations(agents, [a_node(bandwidth_bps=9)]).passed
    assert not check_allocations([an_agent(gpu_milli=1)], [a_node(gpu_count=0)]).passed


def test_reasons_read_as_sentences_with_the_facts() -> None:
    """Golden reasons: operators and alerts rely on them."""
    late = a_node("n2", heartbeat_at=NOW - timedelta(seconds=7.25))
    ahead = a_node("n3", heartbeat_at=NOW + timedelta(seconds=8))
    found = check_heartbeats([a_node("n1"), late, ahead], SEEN, POLICY)
    assert found.reason == (
        "of 3 nodes 2 ready, 1 late, 0 lost, 0 pending, 0 stopped; "
        "first: n2 (us): late, last heartbeat 7.2 s ago, phase running"
    )
    assert found.offenders[1] == Offender("n3", "us", "clock 8.0 s ahead")
    assert found.numbers["clock_skew_max_s"] == 8.0
    assert found.numbers["oldest_heartbeat_s"] == 7.25
    silent = a_node("n1", phase=NodePhase.PENDING, heartbeat_at=None)
    assert check_heartbeats([silent], SEEN, POLICY).offenders[0].detail == (
        "pending, no heartbeat yet, phase pending"
    )
    assert check_unique([("a1", "us"), ("a2", "us"), ("a1", "eu")], "agent").reason == (
        "1 of 2 agent ids occur more than once; first: a1 (us): 2 times: eu, us"
    )
    assert check_known_nodes([an_agent(node_id="n9"), an_agent()], [a_node()]).reason == (
        "1 of 2 agents are not on a known node; first: a1 (us): node n9 is not in the inventory"
    )
    waiting = check_known_nodes([an_agent(node_id="")], [a_node()])
    assert (waiting.severity, waiting.offenders[0].detail) == (Severity.WARN, "not placed yet")
    moved = check_known_nodes([an_agent(region="eu")], [a_node()])
    assert moved.offenders[0].detail == "node n1 is in region us"
    assert check_allocations([an_agent(cpu_milli=300)], [a_node(cpu_milli=200)]).reason == (
        "1 of 1 nodes are allocated beyond their capacity; "
        "first: n1 (us): allocated cpu_milli 300 of 200"
    )


def test_many_regions_of_one_id_are_named_briefly() -> None:
    """At most four regions are spelled out."""
    verdict = check_unique([("a", f"r{i}") for i in range(9)], "agent")
    assert verdict.offenders[0].detail == "9 times: r0, r1, r2, r3, ..."


def test_an_empty_fleet_passes_every_check() -> None:
    """No nodes and no agents break no claim."""
    assert check_unique([], "node").passed
    assert check_known_nodes([], []).passed
    assert check_allocations([], []).passed
    assert check_heartbeats([], SEEN, POLICY).passed
