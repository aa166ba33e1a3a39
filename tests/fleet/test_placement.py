"""First placement: even, stable, within capacity, at home."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import Placement
from fleet.placement.initial import plan_initial_placements
from fleet.placement.parking import NO_NODE, lacks_room
from fleet.relocation import RelocationTargets, plan_relocation
from fleet.reports import AgentDeclaration, NodeDeclaration

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REGIONS = ["east", "west"]


def node(node_id: str, region: str = "east", cpu_milli: int = 1000) -> NodeDeclaration:
    """A node with plenty of everything but CPU."""
    return NodeDeclaration(node_id, region, f"{region}-a", cpu_milli, 2**40, 10**12, 8, 2**40)


def agent(
    agent_id: str, region: str = "east", workload: str = "w", cpu: int = 10
) -> AgentDeclaration:
    """An agent that needs CPU and little else."""
    return AgentDeclaration(agent_id, "net", workload, region, cpu, 1024)


def store(existing: list[Placement], planned: list[Placement]) -> list[Placement]:
    """What the control store holds after it has taken the plan."""
    rows = {placement.agent_id: placement for placement in existing}
    rows |= {
        placement.agent_id: placement._replace(epoch=placement.epoch + 1) for placement in planned
    }
    return list(rows.values())


nodes_st = st.lists(
    st.builds(
        node,
        st.integers(0, 9).map(lambda i: f"n{i}"),
        st.sampled_from(REGIONS),
        st.integers(0, 100),
    ),
    unique_by=lambda n: n.node_id,
)
agents_st = st.lists(
    st.builds(
        agent,
        st.integers(0, 60).map(lambda i: f"a{i:02}"),
        st.sampled_from(REGIONS),
        st.sampled_from(["w1", "w2"]),
        st.sampled_from([10, 30]),
    ),
    unique_by=lambda a: a.agent_id,
)


@given(agents_st, nodes_st)
def test_every_agent_is_placed_within_capacity_at_home_or_parked_with_a_reason(
    agents: list[AgentDeclaration], nodes: list[NodeDeclaration]
) -> None:
    """No node is overcommitted; an agent is parked only where no node of its region has room."""
    planned = plan_initial_placements(agents, nodes, [], now=NOW)
    shapes = {a.agent_id: a for a in agents}
    free = {n.node_id: n.cpu_milli for n in nodes}
    region_of = {n.node_id: n.region for n in nodes}
    assert sorted(shapes) == [p.agent_id for p in planned]
    for placed in planned:
        assert placed.reason
        if placed.desired == "running":
            assert region_of[placed.node_id] == placed.region == shapes[placed.agent_id].region
            free[placed.node_id] -= shapes[placed.agent_id].cpu_milli
    assert all(left >= 0 for left in free.values())
    for placed in planned:
        if placed.desired == "parked":
            assert placed.node_id == NO_NODE
            rooms = [free[n.node_id] for n in nodes if n.region == placed.region]
            assert all(room < shapes[placed.agent_id].cpu_milli for room in rooms)


@given(agents_st, nodes_st)
def test_a_second_start_moves_nothing(
    agents: list[AgentDeclaration], nodes: list[NodeDeclaration]
) -> None:
    """Planning on the stored result changes nothing: epochs stay, parked agents stay parked."""
    stored = store([], plan_initial_placements(agents, nodes, [], now=NOW))
    assert plan_initial_placements(agents, nodes, stored, now=NOW) == []


@given(st.integers(0, 50), st.integers(1, 7))
def test_agents_of_a_workload_are_dealt_evenly(agents: int, nodes: int) -> None:
    """With room everywhere no node has two more than another."""
    planned = plan_initial_placements(
        [agent(f"a{i:02}") for i in range(agents)],
        [node(f"n{i}") for i in range(nodes)],
        [],
        now=NOW,
    )
    counts = Counter(p.node_id for p in planned)
    sizes = [counts[f"n{i}"] for i in range(nodes)]
    assert max(sizes) - min(sizes) <= 1


def test_the_order_of_the_input_does_not_matter() -> None:
    """The same fleet is placed the same way whoever lists it."""
    agents = [agent(f"a{i}", workload=f"w{i % 3}") for i in range(20)]
    nodes = [node(f"n{i}") for i in range(4)]
    forward = plan_initial_placements(agents, nodes, [], now=NOW)
    assert forward == plan_initial_placements(agents[::-1], nodes[::-1], [], now=NOW)


def test_only_agents_of_a_node_that_is_gone_are_placed_anew_on_their_old_epoch() -> None:
    """A node that was taken out of the settings frees its agents; the others stay."""
    agents = [agent("a1"), agent("a2")]
    stored = store([], plan_initial_placements(agents, [node("n1"), node("n2")], [], now=NOW))
    gone = next(p for p in stored if p.node_id == "n2")
    planned = plan_initial_placements(agents, [node("n1")], stored, now=NOW, term=7)
    assert [(p.agent_id, p.node_id, p.epoch, p.term) for p in planned] == [
        (gone.agent_id, "n1", gone.epoch, 7)
    ]


def test_a_parked_agent_says_what_is_lacking_and_is_placed_once_there_is_room() -> None:
    """The reason names node, quantity, what is left and what is needed."""
    big = agent("big", cpu=600)
    parked = plan_initial_placements([big], [node("n1", cpu_milli=500)], [], now=NOW)
    assert parked[0].reason == "parked: no node of east has room: n1 has cpu_milli 500 of 600"
    stored = store([], parked)
    placed = plan_initial_placements([big], [node("n1", cpu_milli=600)], stored, now=NOW)
    assert [(p.node_id, p.desired, p.epoch) for p in placed] == [("n1", "running", 1)]


def test_who_was_parked_by_a_failover_for_lack_of_room_is_placed_when_there_is_some() -> None:
    """Under the term that it was parked with: with a lower one the store would refuse it."""
    big = agent("big", cpu=600)
    lost = Placement("big", "net", "w", "n1", "east", 3, 7, "running", "", NOW)
    for targets in ([], [node("n2", cpu_milli=500)]):
        [move] = plan_relocation(
            [lost], [lost], {"big": big}, RelocationTargets(targets, ()),
            because="node n1 was lost (i)", now=NOW, term=8,
        )  # fmt: skip
        assert lacks_room(move.after)
        planned = plan_initial_placements([big], [node("n2")], [move.after], now=NOW)
        assert [(p.node_id, p.desired, p.epoch, p.term) for p in planned] == [
            ("n2", "running", 3, 8)
        ]
        assert plan_initial_placements([big], targets, [move.after], now=NOW) == []


@pytest.mark.parametrize(
    "reason",
    [
        "parked: Park agent/a, 1 agents: crash loops must not tour the fleet (restarts 5, limit 3)",
        "node n1 was lost (i); parked: no backup can be restored: eu: the vault has no log",
        "node n1 was lost (i); parked: its state is damaged, and no backup holds another",
    ],
)
def test_who_was_parked_for_another_reason_does_not_start_for_having_room(reason: str) -> None:
    """A crash loop would begin again; an agent without its state would begin from nothing."""
    parked = Placement("a", "net", "w", NO_NODE, "east", 3, 7, "parked", reason, NOW)
    assert plan_initial_placements([agent("a")], [node("n1")], [parked], now=NOW) == []


def test_a_region_without_nodes_parks_its_agents() -> None:
    """Agents never leave their region at first placement."""
    planned = plan_initial_placements([agent("a", "west")], [node("n1", "east")], [], now=NOW)
    assert planned[0].reason == "parked: region west has no node"


def test_a_long_list_of_full_nodes_is_shortened_in_the_reason() -> None:
    """An operator reads three examples and a count."""
    nodes = [node(f"n{i}", cpu_milli=1) for i in range(5)]
    planned = plan_initial_placements([agent("a")], nodes, [], now=NOW)
    assert planned[0].reason.endswith("; and 2 more nodes")


def test_an_agent_that_was_stopped_on_purpose_stays_where_it_is() -> None:
    """Stopping an agent is an order, not a vacancy; its room stays reserved."""
    stopped = Placement("a1", "net", "w", "n1", "east", 3, 0, "stopped", "by hand", NOW)
    planned = plan_initial_placements(
        [agent("a1", cpu=1000), agent("a2", cpu=1)], [node("n1")], [stopped], now=NOW
    )
    assert [(p.agent_id, p.desired) for p in planned] == [("a2", "parked")]


def test_bandwidth_limits_only_where_it_is_declared() -> None:
    """A node without declared bandwidth takes any agent; one with it counts."""
    wide = AgentDeclaration("a", "net", "w", "east", 1, 1, bandwidth_bps=100)
    free = NodeDeclaration("n1", "east", "z", 10, 10)
    narrow = free._replace(bandwidth_bps=50)
    assert plan_initial_placements([wide], [free], [], now=NOW)[0].desired == "running"
    assert plan_initial_placements([wide], [narrow], [], now=NOW)[0].desired == "parked"
