"""Small placement problems, and an exact check of what nodes are asked to hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from hypothesis import strategies as st

from fleet.placement.node_pool import NodePool, pools_of
from fleet.placement.planning import PlacementProblem, PlannedRequest
from fleet.placement.requests import AgentSize, PlacementRequest, PlacementRules
from fleet.reports import NodeDeclaration

MODELS = ["A", "B"]
ZONES = ["z1", "z2", "z3"]


def plain_node(
    node_id: str, cpu: int = 8, zone: str = "z1", memory: int = 8, bandwidth: int = 0
) -> NodeDeclaration:
    """A node without GPUs."""
    return NodeDeclaration(node_id, "r", zone, cpu, memory, bandwidth)


def gpu_node(
    node_id: str,
    gpus: int = 4,
    model: str | None = "A",
    zone: str = "z1",
    cpu: int = 64,
    gpu_memory: int = 0,
) -> NodeDeclaration:
    """A node with GPUs, and memory enough."""
    return NodeDeclaration(node_id, "r", zone, cpu, 1000, 0, gpus, gpu_memory, model)


def request(
    name: str,
    size: AgentSize,
    agents: int = 1,
    *,
    priority: int = 0,
    rules: PlacementRules | None = None,
    region: str = "r",
    network: str = "net",
) -> PlacementRequest:
    """Agents of one workload called like the request."""
    rules = rules or PlacementRules()
    return PlacementRequest(name, region, size, agents, priority, rules, network, name)


def problem(nodes: Sequence[NodeDeclaration]) -> PlacementProblem:
    """With these nodes, empty, and no quota."""
    return PlacementProblem(pools_of(nodes))


sizes_st = st.one_of(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0, 0, 3])).map(
        lambda found: AgentSize(*found)
    ),
    st.builds(
        AgentSize,
        st.integers(0, 3),
        st.integers(0, 2),
        st.just(0),
        st.sampled_from([100, 300, 500, 700, 1000, 1500, 2000, 3000]),
        st.sampled_from([0, 0, 10]),
    ),
)

nodes_st = st.lists(
    st.one_of(
        st.builds(
            plain_node,
            st.integers(0, 9).map(lambda n: f"p{n}"),
            st.integers(0, 12),
            st.sampled_from(ZONES),
            st.integers(0, 12),
            st.sampled_from([0, 5]),
        ),
        st.builds(
            gpu_node,
            st.integers(0, 9).map(lambda n: f"g{n}"),
            st.integers(1, 4),
            st.sampled_from([*MODELS, None]),
            st.sampled_from(ZONES),
            st.integers(0, 12),
            st.sampled_from([0, 40]),
        ),
    ),
    max_size=7,
    unique_by=lambda node: node.node_id,
)

rules_st = st.builds(
    PlacementRules,
    st.sampled_from([(), (), ("A",), ("A", "B")]),
    st.booleans(),
    st.sampled_from(["", "", "", "g1", "g2"]),
    st.booleans(),
)

requests_st = st.lists(
    st.builds(
        lambda size, agents, priority, rules: request(
            "", size, agents, priority=priority, rules=rules
        ),
        sizes_st,
        st.integers(0, 9),
        st.sampled_from([-1, 0, 0, 5]),
        rules_st,
    ),
    max_size=6,
).map(lambda found: [one._replace(name=f"w{n}", workload=f"w{n}") for n, one in enumerate(found)])


def held(pool: NodePool, planned: Sequence[PlannedRequest]) -> dict[str, list[AgentSize]]:
    """node_id -> sizes of the agents that a plan puts there."""
    found: dict[str, list[AgentSize]] = defaultdict(list)
    for one in planned:
        for row in one.rows.tolist():
            found[pool.nodes[row].node_id].append(one.request.size)
    return found


def can_hold(node: NodeDeclaration, sizes: Sequence[AgentSize]) -> bool:
    """Whether the node has it all at once, by trying every way over its devices."""
    for index, room in enumerate((node.cpu_milli, node.memory_bytes, node.bandwidth_bps)):
        if sum(size[index] for size in sizes) > room and (room or index < 2):
            return False
    wanted = sorted((size for size in sizes if size.needs_gpu), key=lambda one: -one.gpu_milli)
    each = node.gpu_memory_bytes // node.gpu_count if node.gpu_count else 0
    return _devices_hold([(1000, each)] * node.gpu_count, wanted)


def _devices_hold(devices: list[tuple[int, int]], sizes: Sequence[AgentSize]) -> bool:
    if not sizes:
        return True
    size, memory = sizes[0], sizes[0].device_memory_bytes
    if size.whole_gpus:
        whole = [n for n, (free, had) in enumerate(devices) if free == 1000 and had >= memory]
        left = [one for n, one in enumerate(devices) if n not in whole[: size.whole_gpus]]
        return len(whole) >= size.whole_gpus and _devices_hold(left, sizes[1:])
    return any(
        _devices_hold(
            [*devices[:n], (free - size.gpu_milli, had - memory), *devices[n + 1 :]], sizes[1:]
        )
        for n, (free, had) in enumerate(devices)
        if free >= size.gpu_milli and had >= memory
    )
