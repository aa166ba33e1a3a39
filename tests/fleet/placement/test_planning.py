"""Plans: within capacity, the same for any order, nobody left who fits, gangs whole or none."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.placement.index import PlacementIndex
from fleet.placement.node_pool import pools_of
from fleet.placement.planning import PlacementProblem, PlannedRequest, Present, plan_placements
from fleet.placement.quotas import (
    LimitRange,
    NetworkLimits,
    QuotaLedger,
    ResourceQuota,
    ResourceUse,
)
from fleet.placement.requests import AgentSize, PlacementRequest, PlacementRules
from fleet.reports import AgentDeclaration, NodeDeclaration
from fleet.rooms import Room, deal, shape_of
from tests.fleet.placement.problems import (
    can_hold,
    gpu_node,
    held,
    nodes_st,
    plain_node,
    problem,
    request,
    requests_st,
)


def on(one: PlannedRequest, nodes: list[NodeDeclaration]) -> list[str]:
    """Names of the nodes of a request's agents, in the order of the agents."""
    pool = pools_of(nodes)["r"]
    return [pool.nodes[row].node_id for row in one.rows.tolist()]


@given(nodes_st, requests_st)
def test_no_node_is_asked_for_more_than_it_has(
    nodes: list[NodeDeclaration], requests: list[PlacementRequest]
) -> None:
    """Every node can hold what is planned on it, device by device; columns say what is left."""
    given_problem = problem(nodes)
    planned = plan_placements(requests, given_problem)
    pool = given_problem.pools.get("r")
    if pool is None:
        assert all(len(one.rows) == 0 for one in planned)
        return
    on_nodes = held(pool, planned)
    for row, node in enumerate(pool.nodes):
        sizes = on_nodes[node.node_id]
        assert can_hold(node, sizes)
        assert pool.free[0, row] == node.cpu_milli - sum(size.cpu_milli for size in sizes)
        assert pool.agents[row] == len(sizes)
        if row >= pool.plain:
            shared = sum(1000 * s.whole_gpus or s.gpu_milli for s in sizes)
            assert pool.gpu_free[row - pool.plain].sum() == 1000 * node.gpu_count - shared


@given(nodes_st, requests_st)
def test_who_is_left_fits_nowhere_and_is_told_why(
    nodes: list[NodeDeclaration], requests: list[PlacementRequest]
) -> None:
    """Outside of gangs nobody waits who has a place; all are placed or have a reason."""
    given_problem = problem(nodes)
    for one in plan_placements(requests, given_problem):
        assert len(one.rows) + one.left == one.request.agents
        assert bool(one.refusal) == (one.left > 0)
        assert bool(one.reason) == (len(one.rows) > 0)
        if one.left and not one.request.rules.gang:
            pool = given_problem.pools.get("r")
            assert pool is None or not pool.fits(one.request.size, one.request.rules).any()


@given(nodes_st, requests_st, st.randoms(use_true_random=False))
def test_the_same_plan_is_made_for_any_order_of_the_input(
    nodes: list[NodeDeclaration], requests: list[PlacementRequest], rng: random.Random
) -> None:
    """Whoever lists nodes and requests."""
    first = plan_placements(requests, problem(nodes))
    shuffled = rng.sample(requests, len(requests))
    second = plan_placements(shuffled, problem(rng.sample(nodes, len(nodes))))
    for one, two in zip(first, second, strict=True):
        assert (one.request, one.reason, one.refusal) == (two.request, two.reason, two.refusal)
        assert one.rows.tolist() == two.rows.tolist()


@given(nodes_st, requests_st)
def test_a_gang_is_placed_whole_or_not_at_all(
    nodes: list[NodeDeclaration], requests: list[PlacementRequest]
) -> None:
    """Over all its requests."""
    gangs: dict[str, list[PlannedRequest]] = defaultdict(list)
    for one in plan_placements(requests, problem(nodes)):
        if one.request.rules.gang:
            gangs[one.request.rules.gang].append(one)
    for members in gangs.values():
        placed = sum(len(one.rows) for one in members)
        assert placed in {0, sum(one.request.agents for one in members)}


def test_a_gang_that_lacks_one_place_gives_back_all_it_took_and_its_quota() -> None:
    """Whoever comes behind it finds the room, and the quota."""
    gang = PlacementRules(gang="train")
    nodes = [gpu_node("g1", 4), gpu_node("g2", 4)]
    limits = NetworkLimits("net", ResourceQuota(gpu_milli=12_000))
    requests = [
        request("lead", AgentSize(1, 1, 0, 1000), rules=gang, priority=5),
        request("work", AgentSize(1, 1, 0, 4000), 2, rules=gang, priority=5),
        request("other", AgentSize(1, 1, 0, 8000)),
        request("small", AgentSize(1, 1, 0, 4000), 2),
    ]
    quotas = QuotaLedger([limits], {})
    lead, other, small, work = plan_placements(requests, PlacementProblem(pools_of(nodes), quotas))
    assert (len(lead.rows), len(work.rows), len(other.rows), len(small.rows)) == (0, 0, 0, 0)
    assert lead.refusal == work.refusal
    assert lead.refusal.startswith("gang train needs all 3 of its agents at once; lead: ")
    requests = [one for one in requests if one.name != "other"]
    fresh = PlacementProblem(pools_of(nodes), QuotaLedger([], {}))
    lead, small, work = plan_placements(requests, fresh)
    assert (len(lead.rows), len(work.rows), len(small.rows)) == (0, 0, 2)


def test_the_more_important_are_placed_first_and_the_bigger_of_the_equal() -> None:
    """Room is short: the small one of high priority, then the biggest of the others."""
    nodes = [plain_node("n1", 10, memory=100)]
    requests = [
        request("a", AgentSize(2, 1), 3),
        request("b", AgentSize(5, 1)),
        request("vip", AgentSize(1, 1), priority=9),
    ]
    a, b, vip = plan_placements(requests, problem(nodes))
    assert (len(a.rows), len(b.rows), len(vip.rows)) == (2, 1, 1)
    assert a.refusal == "no node of r has room: n1 has cpu_milli 0 of 2"


def test_gpu_agents_share_broken_devices_and_leave_whole_nodes_for_the_big() -> None:
    """Four halves on two devices of one node; eight GPUs stay in one place for who needs them."""
    nodes = [gpu_node("g1", 8), gpu_node("g2", 8), plain_node("p1", 100, memory=100)]
    requests = [
        request("big", AgentSize(1, 1, 0, 8000)),
        request("half", AgentSize(1, 1, 0, 500), 4),
        request("plain", AgentSize(1, 1), 3, rules=PlacementRules(pack=True)),
        request("two", AgentSize(1, 1, 0, 2000)),
    ]
    big, half, plain, two = plan_placements(requests, problem(nodes))
    assert len(set(on(half, nodes)) | set(on(two, nodes))) == 1
    assert set(on(big, nodes)).isdisjoint(on(half, nodes))
    assert on(plain, nodes) == ["p1"] * 3
    assert half.reason == f"packed on {on(half, nodes)[0]} of r: 4 of half"


def test_an_agent_that_needs_more_than_one_gpu_gets_whole_devices() -> None:
    """1500 thousandths are two devices; the rest of the second is nobody else's."""
    nodes = [gpu_node("g1", 3)]
    big, small = plan_placements(
        [request("big", AgentSize(1, 1, 0, 1500)), request("small", AgentSize(1, 1, 0, 600), 2)],
        problem(nodes),
    )
    assert (len(big.rows), len(small.rows)) == (1, 1)
    assert small.refusal == "no node of r has room: g1 has gpu_milli 400 of 600"


@pytest.mark.parametrize(
    ("size", "models", "said"),
    [
        (AgentSize(99, 1), (), "g1 has cpu_milli 64 of 99"),
        (AgentSize(1, 9999), (), "g1 has memory_bytes 1000 of 9999"),
        (AgentSize(1, 1, 0, 500), ("H",), "g1 has gpu_model A, not H"),
        (AgentSize(1, 1, 0, 5000), (), "g1 has gpu_milli 4000 of 5000"),
        (AgentSize(1, 1, 0, 500, 99), (), "g1 has gpu_memory_bytes 10 of 99 on one device"),
        (AgentSize(1, 1, 0, 2000, 99), (), "g1 has gpu_memory_bytes 10 of 50 on one device"),
    ],
)
def test_a_refusal_names_node_quantity_what_is_left_and_what_is_needed(
    size: AgentSize, models: tuple[str, ...], said: str
) -> None:
    """As an operator reads it in the agent's row."""
    rules = PlacementRules(gpu_models=models)
    [one] = plan_placements(
        [request("w", size, rules=rules)], problem([gpu_node("g1", gpu_memory=40)])
    )
    assert one.refusal == f"no node of r has room: {said}"


def test_shares_that_are_free_on_different_devices_are_no_whole_gpu() -> None:
    """The refusal tells of devices, not of sums."""
    nodes = [gpu_node("g1", 2)]
    requests = [
        request("six", AgentSize(1, 1, 0, 600), 2, priority=1),
        request("whole", AgentSize(1, 1, 0, 800)),
    ]
    _, whole = plan_placements(requests, problem(nodes))
    assert whole.refusal == "no node of r has room: g1 has gpu_milli 400 of 800 on one device"
    nodes = [gpu_node("g1", 3)]
    requests[1] = request("whole", AgentSize(1, 1, 0, 1800))
    _, whole = plan_placements(requests, problem(nodes))
    assert whole.refusal == "no node of r has room: g1 has 1 whole GPUs of 2"


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=6),
    st.integers(0, 30),
)
def test_dealing_in_columns_equals_dealing_one_by_one(
    rooms: list[tuple[int, int]], agents: int
) -> None:
    """The heap of `fleet.rooms`, which failover deals with, is the twin; order included."""
    nodes = [plain_node(f"n{n}", cpu, memory=99) for n, (cpu, _) in enumerate(rooms)]
    here = {n: count for n, (cpu, count) in enumerate(rooms) if 0 < count <= cpu}
    one = AgentDeclaration("a", "net", "w", "r", 1, 1)
    twins = [Room(node) for node in nodes]
    given_problem = problem(nodes)
    pool = given_problem.pools["r"]
    for n, count in here.items():
        for _ in range(count):
            twins[n].take(shape_of(one))
        row = pool.rows[f"n{n}"]
        pool.take(np.array([row]), np.array([count]), AgentSize(1, 1))
    if here:
        rows = np.array([pool.rows[f"n{n}"] for n in here])
        present = Present(rows, np.array(list(here.values())))
        given_problem.present = {("r", "w"): present}
    dealt = deal(shape_of(one), [one] * agents, twins)
    [planned] = plan_placements([request("w", AgentSize(1, 1), agents)], given_problem)
    assert on(planned, nodes) == [room.node.node_id for _, room, _ in dealt.placed]


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 12)), min_size=1, max_size=6),
    st.sampled_from([1000, 2000, 3000]),
    st.integers(0, 12),
)
def test_a_class_of_whole_gpus_goes_where_single_decisions_would_take_it(
    shapes: list[tuple[int, int]], gpu_milli: int, agents: int
) -> None:
    """Batch equals one by one: on nodes of one kind the index is the twin."""
    nodes = [gpu_node(f"g{n}", gpus, cpu=gpus * 4) for n, (gpus, _) in enumerate(shapes)]
    size = AgentSize(3, 1, 0, gpu_milli)
    [planned] = plan_placements([request("w", size, agents)], problem(nodes))
    index = PlacementIndex(nodes)
    singly = [index.place("r", size) for _ in range(agents)]
    found = Counter(claim.node_id for claim in singly if claim is not None)
    assert Counter(on(planned, nodes)) == found


@given(st.lists(st.integers(0, 20), min_size=1, max_size=9), st.integers(1, 40))
def test_more_capacity_never_places_fewer_of_one_class(cpus: list[int], agents: int) -> None:
    """Monotone where it is true: for one class; with several a big one may take a new node."""
    wanted = request("w", AgentSize(3, 1), agents, rules=PlacementRules(pack=True))
    nodes = [plain_node(f"n{n}", cpu, memory=99) for n, cpu in enumerate(cpus)]
    counts = [
        len(plan_placements([wanted], problem(nodes[:upto]))[0].rows)
        for upto in range(1, len(nodes) + 1)
    ]
    assert counts == sorted(counts)


@given(st.integers(0, 40), st.integers(1, 3), st.booleans(), st.booleans())
def test_zones_differ_by_at_most_one_where_there_is_room(
    agents: int, nodes_per_zone: int, pack: bool, gpu: bool
) -> None:
    """Spread agents of one workload, packed or dealt, with GPUs or without."""
    nodes = [
        gpu_node(f"{zone}-{n}", 64, zone=zone, cpu=1000) if gpu
        else plain_node(f"{zone}-{n}", 1000, zone, 1000)
        for zone in ("z1", "z2", "z3")
        for n in range(nodes_per_zone)
    ]  # fmt: skip
    size = AgentSize(1, 1, 0, 1000) if gpu else AgentSize(1, 1)
    rules = PlacementRules(spread_zones=True, pack=pack)
    [planned] = plan_placements([request("w", size, agents, rules=rules)], problem(nodes))
    zones = Counter(node_id[:2] for node_id in on(planned, nodes))
    counts = [zones[zone] for zone in ("z1", "z2", "z3")]
    assert sum(counts) == agents
    assert max(counts) - min(counts) <= 1


def test_zones_are_made_even_with_what_runs_there_already() -> None:
    """Three in one zone: the next two go to the other; a full zone does not hold others back."""
    nodes = [plain_node("a1", 9, "za", 99), plain_node("b1", 3, "zb", 99)]
    given_problem = problem(nodes)
    given_problem.present = {("r", "w"): Present(np.array([0]), np.array([3]))}
    rules = PlacementRules(spread_zones=True)
    [planned] = plan_placements([request("w", AgentSize(1, 1), 2, rules=rules)], given_problem)
    assert on(planned, nodes) == ["b1", "b1"]
    assert planned.reason == "dealt over b1 of r in 1 zone: 2 of w"
    [planned] = plan_placements([request("v", AgentSize(1, 1), 8, rules=rules)], problem(nodes))
    assert Counter(on(planned, nodes)) == {"a1": 5, "b1": 3}


def test_a_packed_workload_uses_no_more_nodes_than_it_needs() -> None:
    """Ten nodes with room for four: twelve agents go onto three, evenly."""
    nodes = [plain_node(f"n{n}", 4, memory=99) for n in range(10)]
    rules = PlacementRules(pack=True)
    [planned] = plan_placements([request("w", AgentSize(1, 1), 11, rules=rules)], problem(nodes))
    assert sorted(Counter(on(planned, nodes)).values()) == [3, 4, 4]
    [dealt] = plan_placements([request("w", AgentSize(1, 1), 11)], problem(nodes))
    assert len(set(on(dealt, nodes))) == 10


def test_quotas_are_asked_before_room_and_the_important_are_served_from_them_first() -> None:
    """The refusal names quota, use and request."""
    limits = NetworkLimits("net", ResourceQuota(agents=9, cpu_milli=100))
    quotas = QuotaLedger([limits], {"net": ResourceUse(1, 90)})
    requests = [
        request("a", AgentSize(5, 1), 3),
        request("vip", AgentSize(5, 1), priority=1),
        request("else", AgentSize(5, 1), network="other"),
    ]
    given_problem = PlacementProblem(pools_of([plain_node("n1", 99, memory=99)]), quotas)
    a, free, vip = plan_placements(requests, given_problem)
    assert (len(vip.rows), len(a.rows), len(free.rows)) == (1, 1, 1)
    assert a.refusal == "quota of network net: cpu_milli 95 of 100 used, 15 requested"


def test_a_request_that_cannot_be_meant_is_refused_before_anything_is_planned() -> None:
    """Negative and absurd amounts name the request, the field and the value."""
    for size, agents, field in (
        (AgentSize(-1, 1), 1, "cpu_milli"),
        (AgentSize(1, 1 << 62), 1, "memory_bytes"),
        (AgentSize(1, 1), -3, "agents"),
    ):
        with pytest.raises(InvalidInputError, match=f"request w: {field}"):
            plan_placements([request("w", size, agents)], problem([plain_node("n")]))
    with pytest.raises(InvalidInputError, match="each name once"):
        plan_placements([request("w", AgentSize(1, 1))] * 2, problem([plain_node("n")]))


def test_a_few_agents_on_many_nodes_go_to_the_emptiest_by_name() -> None:
    """The short way of dealing gives what the long one does."""
    nodes = [plain_node(f"n{n:02d}", 9, memory=9) for n in range(40)]
    given_problem = problem(nodes)
    pool = given_problem.pools["r"]
    pool.take(np.array([0, 2]), np.array([1, 1]), AgentSize(1, 1))
    [planned] = plan_placements([request("w", AgentSize(1, 1), 3)], given_problem)
    assert on(planned, nodes) == ["n01", "n03", "n04"]


def test_an_agent_that_needs_device_memory_alone_shares_a_device() -> None:
    """And limits of its network refuse it like any other."""
    nodes = [gpu_node("g1", 2, gpu_memory=40), plain_node("p1")]
    size = AgentSize(1, 1, 0, 0, 15)
    limits = [NetworkLimits("strict", limits=LimitRange(cpu_milli_max=0))]
    requests = [request("w", size, 3), request("x", size, network="strict")]
    given_problem = PlacementProblem(pools_of(nodes), QuotaLedger(limits, {}))
    w, x = plan_placements(requests, given_problem)
    assert (len(w.rows), x.refusal) == (2, "limits of network strict: cpu_milli max 0, has 1")
    assert w.refusal == (
        "no node of r has room: g1 has gpu_memory_bytes 5 of 15 on one device; "
        "p1 has gpu_memory_bytes 0 of 15 on one device"
    )


def test_a_gang_that_its_quota_does_not_allow_whole_is_not_begun() -> None:
    """Nothing of it is placed, and the quota stays for the others."""
    gang = PlacementRules(gang="train")
    limits = NetworkLimits("net", ResourceQuota(agents=3))
    requests = [
        request("lead", AgentSize(1, 1), rules=gang, priority=5),
        request("work", AgentSize(1, 1), 3, rules=gang, priority=4),
        request("x", AgentSize(1, 1), 3),
    ]
    quotas = QuotaLedger([limits], {})
    given_problem = PlacementProblem(pools_of([plain_node("n1", 9, memory=9)]), quotas)
    lead, work, x = plan_placements(requests, given_problem)
    assert (len(lead.rows), len(work.rows)) == (0, 0)
    assert (
        lead.refusal
        == work.refusal
        == (
            "gang train needs all 4 of its agents at once; work: "
            "quota of network net: agents 1 of 3 used, 3 requested"
        )
    )
    assert given_problem.quotas.allowed(AgentDeclaration("a", "net", "w", "r", 1, 1), 9) == (
        3 - len(x.rows)
    )


def test_a_node_with_room_lacks_nothing() -> None:
    """For agents with GPUs and without."""
    pool = pools_of([gpu_node("g1")])["r"]
    for size in (AgentSize(1, 1), AgentSize(1, 1, 0, 4000), AgentSize(1, 1, 0, 300)):
        assert pool.shortage(0, size, PlacementRules()) == ""
