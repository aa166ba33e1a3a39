"""Agents of lost nodes go where there is room, the most important first, or are parked in words."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import Placement
from fleet.placement.parking import NO_NODE
from fleet.placement.requests import PlacementRules
from fleet.relocation import Move, RelocationTargets, plan_relocation
from fleet.reports import AgentDeclaration, NodeDeclaration
from tests.fleet.test_placement import NOW, REGIONS, node


def agent(agent_id: str, cpu: int = 10, priority: int = 0) -> AgentDeclaration:
    """Declared in the east."""
    return AgentDeclaration(agent_id, "net", "w", "east", cpu, 1024, priority=priority)


def on(node_id: str, agent_id: str, region: str = "east", epoch: int = 3) -> Placement:
    """A running agent."""
    return Placement(agent_id, "net", "w", node_id, region, epoch, 1, "running", "", NOW)


def plan(
    leaving: list[Placement],
    shapes: list[AgentDeclaration],
    targets: RelocationTargets,
    staying: list[Placement] | None = None,
) -> list[Move]:
    """With everything that is the same in all tests."""
    return plan_relocation(
        leaving,
        staying or [],
        {one.agent_id: one for one in shapes},
        targets,
        because="node n0 was lost",
        now=NOW,
        term=9,
    )


shapes_st = st.lists(
    st.builds(
        agent,
        st.integers(0, 30).map(lambda i: f"a{i:02}"),
        st.sampled_from([10, 30]),
        st.integers(0, 2),
    ),
    unique_by=lambda a: a.agent_id,
)
targets_st = st.lists(
    st.builds(
        node,
        st.integers(1, 6).map(lambda i: f"n{i}"),
        st.sampled_from(REGIONS),
        st.integers(0, 150),
    ),
    unique_by=lambda n: n.node_id,
)


@given(shapes_st, targets_st, st.sampled_from([0.0, 0.25]), st.integers(0, 5))
def test_nobody_is_lost_nothing_is_overcommitted_and_importance_decides(
    shapes: list[AgentDeclaration],
    nodes: list[NodeDeclaration],
    head_room: float,
    staying_count: int,
) -> None:
    """Every agent has a place or a reason; none is parked while a lesser one of its size runs."""
    staying = [on(n.node_id, f"s{i}", n.region) for i, n in enumerate(nodes[:staying_count])]
    residents = [agent(one.agent_id, cpu=20) for one in staying]
    leaving = [on("n0", one.agent_id) for one in shapes]
    targets = RelocationTargets(nodes, ["west"], head_room)
    moves = plan(leaving, [*shapes, *residents], targets, staying)
    assert [one.before for one in moves] == sorted(leaving)

    by_id = {one.agent_id: one for one in shapes}
    used: dict[str, int] = defaultdict(int)
    for one in staying:
        used[one.node_id] += 20
    arrived = set()
    for before, after in moves:
        assert (after.epoch, after.term) == (before.epoch, 9)
        assert after.reason.startswith("node n0 was lost; ")
        if after.desired == "running":
            used[after.node_id] += by_id[after.agent_id].cpu_milli
            arrived.add(after.node_id)
        else:
            assert (after.node_id, after.desired) == (NO_NODE, "parked")
    for one in nodes:
        if one.node_id in arrived:
            assert used[one.node_id] <= one.cpu_milli * (1 - head_room)
    worst = {
        cpu: min(
            (
                by_id[after.agent_id].priority
                for _, after in moves
                if after.desired == "running" and by_id[after.agent_id].cpu_milli == cpu
            ),
            default=99,
        )
        for cpu in (10, 30)
    }
    for _, after in moves:
        if after.desired == "parked":
            shape = by_id[after.agent_id]
            assert shape.priority <= worst[shape.cpu_milli]


def test_an_agent_stays_in_its_region_while_there_is_room_and_then_goes_to_the_next() -> None:
    """In the order that the caller gives."""
    nodes = [node("e1", "east", 10), node("w1", "west", 10), node("x1", "north", 100)]
    leaving = [on("n0", f"a{i}") for i in range(3)]
    moves = plan(leaving, [agent(f"a{i}") for i in range(3)], RelocationTargets(nodes, ["west"]))
    assert [after.node_id for _, after in moves] == ["e1", "w1", NO_NODE]
    assert moves[1].after.region == "west"
    assert moves[2].after.reason == (
        "node n0 was lost; parked: no node of east, west has room: "
        "e1 has cpu_milli 0 of 10; w1 has cpu_milli 0 of 10"
    )
    assert moves[2].after.region == "east"


def test_a_region_that_is_left_is_no_target() -> None:
    """An evacuation puts nobody onto the nodes that happen to be alive there."""
    nodes = [node("e1", "east"), node("w1", "west")]
    targets = RelocationTargets(nodes, ["west"], at_home=False)
    (move,) = plan([on("n0", "a")], [agent("a")], targets)
    assert move.after.node_id == "w1"


def test_without_targets_the_reason_says_that_there_is_no_node() -> None:
    """Rather than naming shortages of nothing."""
    (move,) = plan([on("n0", "a")], [agent("a")], RelocationTargets([], []))
    assert move.after.reason == "node n0 was lost; parked: east has no node"


def test_what_is_stopped_stays_stopped_and_what_is_parked_is_tried_again() -> None:
    """An order is not a vacancy; a lack of room may have ended."""
    stopped = on("n0", "a")._replace(desired="stopped")
    parked = on(NO_NODE, "b")._replace(desired="parked")
    targets = RelocationTargets([node("e1")], [])
    (move,) = plan([stopped, parked], [agent("a"), agent("b")], targets)
    assert (move.after.agent_id, move.after.node_id, move.after.desired) == ("b", "e1", "running")


def test_an_agent_that_is_not_declared_any_more_is_parked_and_says_so() -> None:
    """Nobody knows what it needs."""
    (move,) = plan([on("n0", "a")], [], RelocationTargets([node("e1")], []))
    assert move.after.reason == "node n0 was lost; parked: it is not declared any more"


def test_agents_move_only_to_nodes_with_their_gpu_model_and_whole_devices() -> None:
    """Three devices in part used are no whole GPU; another model is none at all."""
    rules = {"w": PlacementRules(gpu_models=("H",))}
    nodes = [
        node("n1")._replace(gpu_count=3, gpu_model="H"),
        node("n2")._replace(gpu_count=2, gpu_model="A"),
    ]
    shapes = {name: agent(name)._replace(gpu_milli=600) for name in ("s1", "s2", "s3")}
    shapes["big"] = agent("big")._replace(gpu_milli=1000)
    staying = [on("n1", name) for name in ("s1", "s2", "s3")]
    [move] = plan_relocation(
        [on("gone", "big")], staying, shapes, RelocationTargets(nodes, (), rules=rules),
        because="node gone was lost", now=NOW, term=2,
    )  # fmt: skip
    assert move.after.reason == (
        "node gone was lost; parked: no node of east has room: n1 has no device with gpu_milli "
        "1000 and gpu_memory_bytes 0 left; n2 has gpu_model A, not H"
    )
    [move] = plan_relocation(
        [on("gone", "big")], staying[:1], shapes, RelocationTargets(nodes, (), rules=rules),
        because="node gone was lost", now=NOW, term=2,
    )  # fmt: skip
    assert move.after.node_id == "n1"
    shapes["big"] = agent("big")._replace(gpu_milli=3000)
    shapes["s2"] = agent("s2")._replace(gpu_milli=3000)  # more than the node has left: it is there
    [move] = plan_relocation(
        [on("gone", "big")], staying, shapes, RelocationTargets(nodes, (), rules=rules),
        because="node gone was lost", now=NOW, term=2,
    )  # fmt: skip
    assert "n1 has gpu_milli 0 of 3000" in move.after.reason
