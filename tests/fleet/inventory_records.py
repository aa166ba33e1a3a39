"""Nodes and agents for tests: valid ones, of which a test changes what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from fleet.inventory import Agent, AgentPhase, Gpu, Node, NodePhase
from fleet.reports import NodeDeclaration

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GIB = 1024**3


def a_node(node_id: str = "n1", region: str = "us", **changes: Any) -> Node:
    """A ready node of two cores without GPUs."""
    node = Node(
        node_id=node_id,
        region=region,
        zone=f"{region}-a",
        phase=NodePhase.RUNNING,
        cpu_milli=2000,
        memory_bytes=4 * GIB,
        bandwidth_bps=0,
        gpu_count=0,
        gpu_memory_bytes=0,
        boot_id="boot-1",
        heartbeat_at=NOW - timedelta(seconds=1),
        lease_expires_at=NOW + timedelta(seconds=4),
        agents_running=0,
        agents_failed=0,
    )
    return node._replace(**changes)


def an_agent(
    agent_id: str = "a1", node_id: str = "n1", region: str = "us", **changes: Any
) -> Agent:
    """A running agent of a tenth of a core."""
    agent = Agent(
        agent_id=agent_id,
        network_id="net",
        workload="work",
        node_id=node_id,
        region=region,
        epoch=1,
        phase=AgentPhase.RUNNING,
        cpu_milli=100,
        memory_bytes=GIB // 16,
        bandwidth_bps=0,
        gpu_milli=0,
        gpu_memory_bytes=0,
    )
    return agent._replace(**changes)


def a_gpu(gpu_uuid: str = "GPU-1", node_id: str = "n1", region: str = "us", **changes: Any) -> Gpu:
    """A GPU that reports nothing wrong."""
    gpu = Gpu(gpu_uuid=gpu_uuid, node_id=node_id, region=region, device_index=0, model="H200")
    return gpu._replace(observed_at=NOW, **changes)


def declared(node: Node, **changes: Any) -> NodeDeclaration:
    """The declaration that a node is true to."""
    fields = {name: getattr(node, name) for name in NodeDeclaration._fields}
    return NodeDeclaration(**fields)._replace(**changes)


REGIONS = st.sampled_from(["eu", "us", "ap"])
NODE_IDS = st.sampled_from(["n1", "n2", "n3", "n4"])
NODES = st.builds(
    a_node,
    node_id=NODE_IDS,
    region=REGIONS,
    phase=st.sampled_from(NodePhase),
    cpu_milli=st.sampled_from([0, 100, 2000]),
    bandwidth_bps=st.sampled_from([0, 1000]),
    gpu_count=st.integers(0, 2),
    gpu_memory_bytes=st.sampled_from([0, GIB]),
    heartbeat_at=st.none() | st.integers(-30, 30).map(lambda age_s: NOW - timedelta(seconds=age_s)),
)
AGENTS = st.builds(
    an_agent,
    agent_id=st.sampled_from(["a1", "a2", "a3", "a4", "a5"]),
    node_id=NODE_IDS,
    region=REGIONS,
    phase=st.sampled_from(AgentPhase),
    cpu_milli=st.sampled_from([0, 50, 1500]),
    bandwidth_bps=st.sampled_from([0, 600]),
    gpu_milli=st.sampled_from([0, 500, 1000]),
    gpu_memory_bytes=st.sampled_from([0, GIB]),
)
