"""Room is made for who matters more: few victims who matter least and have somewhere to go."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import Placement
from fleet.errors import InvalidInputError
from fleet.placement.initial import NO_TERMS, plan_waiting
from fleet.placement.parking import may_be_tried_again
from fleet.placement.preempting import is_preempted, preempt
from fleet.placement.preemption import (
    PreemptionPolicy,
    Preemptor,
    Running,
    plan_preemptions,
)
from fleet.placement.requests import AgentSize, PlacementRules
from fleet.reports import AgentDeclaration, NodeDeclaration
from tests.fleet.placement.problems import can_hold, gpu_node, plain_node

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = PreemptionPolicy(victims_max=9)


def runs(name: str, node: str, cpu: int, priority: int = 0, since_s: float = 0.0) -> Running:
    """An agent that needs CPU."""
    return Running(name, node, AgentSize(cpu, 1), priority, since_s)


def wants(name: str, cpu: int, priority: int = 5) -> Preemptor:
    """An agent without a node."""
    return Preemptor(name, "r", AgentSize(cpu, 1), priority)


agents_st = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(-1, 6), st.integers(0, 5)),
    max_size=8,
)


@given(st.lists(st.integers(3, 9), min_size=1, max_size=3), agents_st, st.integers(1, 9),
       st.integers(0, 4), st.booleans())  # fmt: skip
def test_room_is_made_within_all_rules_and_wherever_it_can_be(
    cpus: list[int], agents: list[tuple[int, int, int, int]], cpu: int, most: int, may_park: bool
) -> None:
    """Against all sets of victims: never too many, never a more important one, none for nothing."""
    nodes = [plain_node(f"n{n}", room, memory=99) for n, room in enumerate(cpus)]
    running: list[Running] = []
    for number, (at, size, priority, since) in enumerate(agents):
        one = runs(f"a{number}", f"n{at % len(nodes)}", size, priority, float(since))
        there = [other.size for other in running if other.node_id == one.node_id]
        if can_hold(nodes[at % len(nodes)], [*there, one.size]):
            running.append(one)
    wanted = wants("vip", cpu)
    if any(fits(node, running, [wanted.size], ()) for node in nodes):
        return  # no need for it
    policy = PreemptionPolicy(0, most, may_park)
    found = plan_preemptions([wanted], running, nodes, policy)
    least = fewest(nodes, running, wanted)
    if not found:
        if may_park:
            assert least is None or least > most
        return
    [made] = found
    victims = [one for one, _ in made.victims]
    assert 0 < len(victims) <= most
    assert least is not None
    assert len(victims) >= least
    assert all(one.node_id == made.node_id and one.priority < 5 for one in victims)
    assert may_park or all(home is not None for _, home in made.victims)
    after = [one for one in running if one not in victims]
    after += [one._replace(node_id=home) for one, home in made.victims if home]
    after.append(Running("vip", made.node_id, wanted.size, 5, 0.0))
    for node in nodes:
        assert can_hold(node, [one.size for one in after if one.node_id == node.node_id])
    target = next(node for node in nodes if node.node_id == made.node_id)
    for kept in range(len(victims)):
        assert not fits(target, running, [wanted.size], [*victims[:kept], *victims[kept + 1 :]])


def fits(
    node: NodeDeclaration, running: list[Running], more: list[AgentSize], without: object
) -> bool:
    """Whether a node holds what is on it, less some, and more."""
    gone = set(without)  # type: ignore[call-overload]
    there = [one.size for one in running if one.node_id == node.node_id and one not in gone]
    return can_hold(node, [*there, *more])


def fewest(nodes: list[NodeDeclaration], running: list[Running], wanted: Preemptor) -> int | None:
    """Victims that the best node needs, by trying all sets."""
    for count in range(1, len(running) + 1):
        for node in nodes:
            lower = [o for o in running if o.node_id == node.node_id and o.priority < 5]
            for victims in itertools.combinations(lower, count):
                if fits(node, running, [wanted.size], victims):
                    return count
    return None


def test_the_least_important_and_youngest_of_one_node_go_first() -> None:
    """Of two nodes with one victim each: lower priority, then who runs for a shorter time."""
    nodes = [plain_node(n, 4, memory=99) for n in ("n1", "n2", "n3")] + [plain_node("n4", 2)]
    running = [
        runs("a", "n1", 4, 1), runs("b", "n2", 4, 0, 10.0), runs("c", "n3", 4, 0, 20.0),
        runs("d", "n4", 2),
    ]  # fmt: skip
    policy = PreemptionPolicy(victims_max=2, may_park=True)
    made = plan_preemptions([wants("x", 4, 9), wants("y", 4, 2)], running, nodes, policy)
    assert [(one.preemptor.agent_id, one.node_id) for one in made] == [("x", "n3"), ("y", "n2")]
    assert made[0].reason == "preempted 1 agent of priority 0 or less on n3 for priority 9"
    assert made[0].victims == ((running[2], None),)


@pytest.mark.parametrize(
    ("wanted", "policy"),
    [
        (wants("x", 4, 0), POLICY),
        (wants("x", 4, 5), PreemptionPolicy(above_priority=5, victims_max=9)),
        (wants("x", 4, 5), PreemptionPolicy(victims_max=1)),
        (wants("x", 5, 5), POLICY),
        (wants("x", 4, 5)._replace(region="elsewhere"), POLICY),
        (Preemptor("x", "r", AgentSize(1, 1, 0, 500), 5, PlacementRules(("H",))), POLICY),
    ],
)
def test_nobody_is_moved_for_who_may_not_preempt_or_cannot_be_helped(
    wanted: Preemptor, policy: PreemptionPolicy
) -> None:
    """Normal agents, too many victims, a node that is too small, another region, another model."""
    nodes = [plain_node("n1", 4, memory=9), plain_node("n2", 3, memory=9), gpu_node("g1", 1)]
    running = [runs("a", "n1", 2), runs("b", "n1", 2), runs("c", "g1", 64)]
    assert plan_preemptions([wanted], running, nodes, policy) == []


def test_a_share_of_a_gpu_is_freed_where_one_victim_is_enough() -> None:
    """The other device's agent stays."""
    nodes = [gpu_node("g1", 2), gpu_node("g2", 1, "B")]
    share = AgentSize(1, 1, 0, 600)
    running = [
        Running("a", "g1", share, 0, 1.0),
        Running("b", "g1", share, 0, 2.0),
    ]
    wanted = Preemptor("x", "r", AgentSize(1, 1, 0, 500), 5, PlacementRules(("A",)))
    [made] = plan_preemptions([wanted], running, nodes, POLICY)
    assert made.victims == ((running[1], "g2"),)
    with pytest.raises(InvalidInputError, match="victims_max"):
        plan_preemptions([wanted], running, nodes, PreemptionPolicy(victims_max=-1))


def test_a_plan_with_preemption_moves_victim_and_newcomer_in_one_batch() -> None:
    """The victim says for whom it moved; who is stopped is nobody's victim."""

    def agent(name: str, cpu: int, priority: int = 0) -> AgentDeclaration:
        return AgentDeclaration(name, "net", "w", "r", cpu, 1, priority=priority)

    def placed(name: str, node: str, desired: str = "running") -> Placement:
        return Placement(name, "net", "w", node, "r", 3, 2, desired, "", NOW)

    nodes = [plain_node("n1", 4, memory=9), plain_node("n2", 2, memory=9)]
    agents = [agent("low", 2), agent("halted", 2), agent("vip", 4, 7)]
    for desired in ("running", "stopped"):
        existing = [placed("low", "n1"), placed("halted", "n1", desired)]
        plan = plan_waiting(agents, nodes, existing, now=NOW, term=5)
        assert [one.agent_id for one in plan.lacking] == ["vip"]
        made = preempt(plan, agents, existing, nodes, NO_TERMS, POLICY, now=NOW, term=5)
        assert [p.agent_id for p in made if p.agent_id != "vip"] == []
    agents[2] = agent("vip", 2, 7)
    nodes[1] = plain_node("n2", 3, memory=9)
    agents.append(agent("other", 2))
    existing = [placed("low", "n1"), placed("halted", "n1", "stopped"), placed("other", "n2")]
    nodes.append(plain_node("n3", 1, memory=9))
    plan = plan_waiting(agents, nodes, existing, now=NOW, term=5)
    parkable = PreemptionPolicy(victims_max=9, may_park=True)
    low, vip = preempt(plan, agents, existing, nodes, NO_TERMS, parkable, now=NOW, term=5)
    assert (vip.agent_id, vip.node_id, vip.desired, vip.epoch) == ("vip", "n1", "running", 0)
    assert (low.agent_id, low.desired, low.epoch, low.term) == ("low", "parked", 3, 5)
    assert low.reason.startswith("made room for vip on n1; parked: no node of its region has room")
    assert is_preempted(low)
    assert may_be_tried_again(low)


def test_agents_alike_are_helped_one_after_another_on_what_the_others_left() -> None:
    """A node that has changed is judged anew: its victim has gone, or its room was taken."""
    nodes = [plain_node(f"n{n}", 4, memory=99) for n in range(3)] + [plain_node("n3", 9, memory=9)]
    running = [runs(f"a{n}", f"n{n}", 3) for n in range(3)] + [runs("b", "n3", 6)]
    made = plan_preemptions([wants(f"x{n}", 4) for n in range(4)], running, nodes, POLICY)
    assert [(one.node_id, [home for _, home in one.victims]) for one in made] == [
        ("n0", ["n3"]),
    ]
    parkable = PreemptionPolicy(victims_max=9, may_park=True)
    made = plan_preemptions([wants(f"x{n}", 4) for n in range(6)], running, nodes, parkable)
    assert [(one.node_id, [v.agent_id for v, _ in one.victims]) for one in made] == [
        ("n0", ["a0"]),
        ("n1", ["a1"]),
        ("n2", ["a2"]),
        ("n3", ["b"]),
        ("n3", ["a0"]),
    ]


def test_room_that_victims_left_over_is_taken_for_nothing() -> None:
    """One big victim makes room for two."""
    nodes = [plain_node("n1", 4, memory=9)]
    parkable = PreemptionPolicy(victims_max=1, may_park=True)
    made = plan_preemptions(
        [wants("x", 2), wants("y", 2), wants("z", 2)], [runs("a", "n1", 4)], nodes, parkable
    )
    assert [(one.preemptor.agent_id, len(one.victims)) for one in made] == [("x", 1), ("y", 0)]
    assert made[1].reason == "takes room that was left on n1"


def test_a_node_that_holds_more_than_it_has_makes_no_room() -> None:
    """Nobody knows what would become free there; nodes that are not known do not count."""
    nodes = [plain_node("n1", 4, memory=9)]
    running = [runs("a", "n1", 3), runs("b", "n1", 3), runs("c", "elsewhere", 3)]
    parkable = PreemptionPolicy(victims_max=9, may_park=True)
    assert plan_preemptions([wants("x", 2)], running, nodes, parkable) == []


def test_a_victim_does_not_go_to_another_device_of_the_node_that_it_leaves() -> None:
    """Where three hold what two can, a victim's device is not free for the other."""
    nodes = [gpu_node("g1", 2, cpu=99)]
    share = AgentSize(1, 1, 0, 600)
    running = [
        Running("a", "g1", share, 0, 0.0),
        Running("b", "g1", share, 0, 1.0),
        Running("c", "g1", share, 9, 2.0),
    ]
    wanted = Preemptor("x", "r", AgentSize(1, 1, 0, 500), 5)
    parkable = PreemptionPolicy(victims_max=9, may_park=True)
    [made] = plan_preemptions([wanted], running, nodes, parkable)
    assert made.victims == ((running[1], None), (running[0], None))
    assert plan_preemptions([wanted], running, nodes, POLICY) == []


def test_shares_of_more_important_agents_may_leave_no_whole_device() -> None:
    """There is enough in sum, but not on one device, whoever of the others goes."""
    nodes = [gpu_node("g1", 2, cpu=99)]
    running = [
        Running("a", "g1", AgentSize(1, 1, 0, 600), 9, 0.0),
        Running("b", "g1", AgentSize(1, 1, 0, 500), 9, 0.0),
        Running("c", "g1", AgentSize(1, 1, 0, 100), 0, 0.0),
    ]
    wanted = Preemptor("x", "r", AgentSize(1, 1, 0, 800), 5)
    assert plan_preemptions([wanted], running, nodes, POLICY) == []
