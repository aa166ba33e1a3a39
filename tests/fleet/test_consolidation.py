"""Consolidation: what fits elsewhere, is worth it, is found twice, and does not churn."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.agents import Placement
from fleet.consolidation.fitting import fit_as_placed
from fleet.consolidation.planning import plan_consolidation
from fleet.consolidation.records import (
    ConsolidationPolicy,
    ConsolidationProposal,
    FitTerms,
    NodeLoad,
)
from fleet.consolidation.validation import carried_out, validate_proposals
from fleet.costs.checks import check_validated
from fleet.disruption_budgets import Disruption, DisruptionBudget
from fleet.placement.initial import PlacementTerms, plan_initial_placements
from fleet.placement.quotas import LimitRange, NetworkLimits, ResourceQuota, ResourceUse
from fleet.placement.requests import PlacementRules
from fleet.reports import AgentDeclaration, NodeDeclaration
from fleet.workload_budgets import WorkloadBudget
from tests.examples import examples

NOW = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)
GIB = 2**30
FREE = ConsolidationPolicy(budgets=(DisruptionBudget("all", percent=100.0),))


def agents(count: int, prefix: str = "a", **changes: Any) -> tuple[AgentDeclaration, ...]:
    """Agents of half a core."""
    made = AgentDeclaration("", "net", "work", "us", 500, GIB // 4)
    return tuple(made._replace(agent_id=f"{prefix}{number}", **changes) for number in range(count))


def load(node_id: str, count: int = 0, **changes: Any) -> NodeLoad:
    """A node of four cores that costs 1 an hour, with agents of half a core."""
    node = NodeDeclaration(node_id, "us", "us-a", 4000, 16 * GIB)
    held = agents(count, prefix=f"{node_id}-")
    return NodeLoad(node, held, 1.0, ready=True, since=LONG_AGO)._replace(**changes)


def plan(
    loads: list[NodeLoad],
    policy: ConsolidationPolicy = FREE,
    recent: list[Disruption] | None = None,
) -> list[ConsolidationProposal]:
    """The first look."""
    fits = fit_as_placed(policy.headroom_ratio)
    return plan_consolidation(loads, recent or [], policy, fits, NOW)


def check(
    planned: list[ConsolidationProposal],
    loads: list[NodeLoad],
    after_s: float = 15.0,
    policy: ConsolidationPolicy = FREE,
) -> list[ConsolidationProposal]:
    """The second look."""
    fits = fit_as_placed(policy.headroom_ratio)
    return validate_proposals(planned, loads, [], policy, fits, NOW + timedelta(seconds=after_s))


def shown(found: list[ConsolidationProposal]) -> list[tuple[str, tuple[str, ...]]]:
    """Kind and nodes of each."""
    return [(one.kind, one.nodes) for one in found]


def test_empty_nodes_go_first_and_one_node_always_stays() -> None:
    """Of a region without any agent, all but one; the saving is theirs."""
    (found,) = plan([load("n1"), load("n2"), load("n3")])
    assert (found.kind, found.nodes, found.score) == ("empty", ("n1", "n2"), None)
    assert (found.saving_per_hour, found.saving_ratio) == (2.0, pytest.approx(2 / 3))
    assert found.reason == "2 of 3 nodes hold no agent"


def test_several_nodes_go_together_when_their_agents_fit_on_the_rest() -> None:
    """Three with one agent each fit on a fourth with three; a fifth would be too many."""
    loads = [load("n1", 1), load("n2", 1), load("n3", 1), load("n4", 3)]
    (found,) = plan(loads)
    assert shown([found]) == [("multi", ("n1", "n2", "n3"))]
    assert found.taken_by == ("n4",)
    assert (found.saving_ratio, found.disruption_ratio) == (0.75, 0.5)
    assert found.score == pytest.approx(1.5)


def test_one_node_goes_when_no_two_can() -> None:
    """Headroom of a tenth leaves each of the others 3.6 cores."""
    loads = [load("n1", 2), load("n2", 6), load("n3", 6)]
    (found,) = plan(loads)
    assert (found.kind, found.nodes, found.taken_by) == ("single", ("n1",), ("n2", "n3"))
    tight = [load("n1", 3), load("n2", 6), load("n3", 6)]
    assert plan(tight) == []


def test_what_disturbs_more_than_it_saves_is_not_proposed() -> None:
    """A tenth of the spend for two thirds of the agents, against nine tenths for a third."""
    cheap = load("n1", 4, price_per_hour=0.1)
    dear = load("n2", 2, price_per_hour=0.9)
    room = load("n3", since=NOW, price_per_hour=0.0)
    assert plan([cheap, dear._replace(since=NOW), room]) == []
    (found,) = plan([cheap._replace(since=NOW), dear, room])
    assert found.nodes == ("n2",)
    assert found.score == pytest.approx(2.7)


@pytest.mark.parametrize(
    "changes",
    [{"ready": False}, {"since": NOW - timedelta(hours=5)}, {"since": None}],
    ids=["not ready", "young", "of unknown age"],
)
def test_some_nodes_are_no_candidates(changes: dict[str, Any]) -> None:
    """They go on counting as spend."""
    others = [load("n2", 6, since=NOW), load("n3", 6, since=NOW)]
    assert plan([load("n1", **changes), *others]) == []
    assert shown(plan([load("n1"), *others])) == [("empty", ("n1",))]


def test_budgets_limit_what_is_proposed_and_a_window_that_rolls_counts_what_was() -> None:
    """Two of ten a day: one was given back this morning, so one is left."""
    policy = ConsolidationPolicy(budgets=(DisruptionBudget("b", percent=20.0),))
    loads = [load(f"n{i}") for i in range(10)]
    assert shown(plan(loads, policy)) == [("empty", ("n0", "n1"))]
    earlier = Disruption("old", "us", "empty", NOW - timedelta(hours=2))
    assert shown(plan(loads, policy, [earlier])) == [("empty", ("n0",))]
    blocked = ConsolidationPolicy(budgets=(DisruptionBudget("b", nodes=0),))
    assert plan(loads, blocked) == []


def test_a_node_that_took_agents_in_is_left_alone_for_a_while() -> None:
    """Otherwise the same agents would wander from node to node."""
    loads = [load("n1", 1), load("n2", 6, since=NOW), load("n3", 6, since=NOW)]
    moved = Disruption("n0", "us", "underutilized", NOW - timedelta(hours=1), ("n1",))
    assert plan(loads, recent=[moved]) == []
    settled = moved._replace(at=NOW - timedelta(hours=7))
    assert shown(plan(loads, recent=[settled])) == [("single", ("n1",))]


def test_what_still_holds_at_the_second_look_is_validated() -> None:
    """With the numbers of the second look."""
    planned = plan([load("n1", 1), load("n2", 6), load("n3", 6)])
    (found,) = check(planned, [load("n1", 2), load("n2", 6), load("n3", 6)])
    assert (found.standing, found.agents_moved) == ("validated", 2)
    assert found.proposal_id == planned[0].proposal_id


@pytest.mark.parametrize(
    ("changed", "after_s", "why"),
    [
        ([load("n1"), load("n2", 6)], 14.0, "before 15 s had passed"),
        ([load("n2", 6), load("n3")], 15.0, "n1 is gone"),
        ([load("n1", ready=False), load("n2", 6)], 15.0, "n1 is gone, or not ready"),
        ([load("n1", since=NOW), load("n2", 6)], 15.0, "n1 has started anew"),
        ([load("n1", 2), load("n2", 6)], 15.0, "n1 has 2 agents now"),
        ([load("n1"), load("n2", 6, ready=False)], 15.0, "no other node is ready"),
    ],
)
def test_what_does_not_hold_any_more_is_dropped_with_the_reason(
    changed: list[NodeLoad], after_s: float, why: str
) -> None:
    """The proposal stays in the record, so that one can see what was only true for a moment."""
    planned = plan([load("n1"), load("n2", 6)])
    (found,) = check(planned, changed, after_s)
    assert found.standing == "dropped"
    assert why in found.reason


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ([load("n1", 2), load("n2", 7), load("n3", 7)], "fit nowhere"),
        ([load("n1", 2, price_per_hour=0.01), load("n2", 3), load("n3", 3)], "score 0.02 is below"),
    ],
)
def test_agents_that_no_longer_fit_and_savings_that_shrank_drop_a_proposal(
    second: list[NodeLoad], why: str
) -> None:
    """Room and price are asked anew."""
    planned = plan([load("n1", 1), load("n2", 6), load("n3", 6)])
    (found,) = check(planned, second)
    assert (found.standing, why in found.reason) == ("dropped", True), found.reason


def test_a_budget_that_shrank_drops_a_proposal() -> None:
    """It is asked at both looks."""
    planned = plan([load("n1"), load("n2", 6)])
    none = ConsolidationPolicy(budgets=(DisruptionBudget("frozen", nodes=0),))
    (found,) = check(planned, [load("n1"), load("n2", 6)], policy=none)
    assert (found.standing, found.reason.startswith("budget frozen")) == ("dropped", True)


def test_only_what_was_carried_out_counts_against_a_budget() -> None:
    """A node that is still there with its agents was proposed, not disrupted."""
    first = [load("n1", 1), load("n2", 6), load("n3", 6)]
    validated = check(plan(first), first)
    dropped = check(plan(first), first, after_s=1.0)
    assert carried_out(validated, first) == []
    assert carried_out(dropped, first[1:]) == []
    (gone,) = carried_out(validated, first[1:])
    assert (gone.node_id, gone.reason, gone.taken_by) == ("n1", "underutilized", ("n2",))
    (emptied,) = carried_out(validated, [load("n1"), *first[1:]])
    assert emptied.node_id == "n1"


def test_a_proposal_that_was_only_looked_at_once_fails_the_check() -> None:
    """Validated and dropped ones were looked at twice."""
    loads = [load("n1", 1), load("n2", 6), load("n3", 6)]
    planned = plan(loads)
    assert not check_validated(planned).passed
    assert check_validated([*check(planned, loads), *check(planned, loads[1:])]).passed


def test_agents_stay_on_the_gpu_models_that_they_ask_for() -> None:
    """Room on another model is no room; without the rule it would be."""
    gpus = {"gpu_count": 8, "gpu_memory_bytes": 640 * GIB}
    h100 = load("n1").node._replace(gpu_model="H100", **gpus)
    l4 = load("n2").node._replace(gpu_model="L4", **gpus)
    model = agents(1, gpu_milli=1000, gpu_memory_bytes=GIB)
    loads = [load("n1", node=h100, agents=model), load("n2", 1, node=l4, since=NOW)]
    asked = fit_as_placed(0.1, FitTerms({("net", "work"): PlacementRules(("H100",))}))
    assert plan_consolidation(loads, [], FREE, asked, NOW) == []
    assert shown(plan(loads)) == [("single", ("n1",))]


def test_regions_are_planned_apart() -> None:
    """Agents never leave their region for a saving."""
    abroad = load("e1", 1)._replace(node=NodeDeclaration("e1", "eu", "eu-a", 4000, 16 * GIB))
    assert plan([load("n1", 6), abroad]) == []


def test_a_fleet_that_follows_every_proposal_keeps_its_budgets_and_comes_to_rest() -> None:
    """A week of hourly looks: in no rolling day more than the budget, nobody moved twice at once.

    And no agent is lost.
    """
    dice = random.Random(7)
    policy = ConsolidationPolicy(budgets=(DisruptionBudget("b", nodes=3),))
    fits = fit_as_placed(policy.headroom_ratio)
    held: dict[str, list[AgentDeclaration]] = {
        f"n{i:02}": list(agents(dice.randint(0, 3), prefix=f"n{i}-")) for i in range(30)
    }
    done: list[Disruption] = []
    moved_at: dict[str, list[datetime]] = defaultdict(list)
    before = sum(map(len, held.values()))
    for hour in range(7 * 24):
        now = NOW + timedelta(hours=hour)
        loads = [load(name)._replace(agents=tuple(own)) for name, own in held.items()]
        planned = plan_consolidation(loads, done, policy, fits, now)
        later = now + timedelta(seconds=15)
        for one in validate_proposals(planned, loads, done, policy, fits, later):
            if one.standing != "validated":
                continue
            gone = [entry for entry in loads if entry.node.node_id in one.nodes]
            rest = [entry for entry in loads if entry.node.node_id in held.keys() - {*one.nodes}]
            for agent_id, node_id in fits(gone, rest).moves.items():
                (agent,) = [a for entry in gone for a in entry.agents if a.agent_id == agent_id]
                held[node_id].append(agent)
                moved_at[agent_id].append(later)
            for name in one.nodes:
                del held[name]
                reason = "empty" if one.kind == "empty" else "underutilized"
                done.append(Disruption(name, "us", reason, later, one.taken_by))
    assert sum(map(len, held.values())) == before
    for one in done:
        window = [other for other in done if timedelta(0) <= one.at - other.at < timedelta(days=1)]
        assert len(window) <= 3
    for times in moved_at.values():
        assert all(b - a >= timedelta(hours=6) for a, b in pairwise(times))
    assert 3 <= len(done) < 30
    assert len(held) < 15


def asked(terms: FitTerms, loads: list[NodeLoad], gone: str = "n1") -> str:
    """What keeps the agents of one node from finding room on the others; '' for nothing."""
    emptied = [one for one in loads if one.node.node_id == gone]
    staying = [one for one in loads if one.node.node_id != gone]
    return fit_as_placed(0.1, terms)(emptied, staying).shortage


WORK = ("net", "work")


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        (FitTerms(), ""),
        (FitTerms(limits=[NetworkLimits("net", ResourceQuota(agents=4))],
                  used={"net": ResourceUse(4, 2000)}), ""),
        (FitTerms(limits=[NetworkLimits("net", ResourceQuota(agents=3))],
                  used={"net": ResourceUse(4, 2000)}), "quota of network net: agents 2 of 3"),
        (FitTerms(limits=[NetworkLimits("net", limits=LimitRange(cpu_milli_max=400))],
                  used={"net": ResourceUse(4, 2000)}), "limits of network net: cpu_milli max 400"),
        (FitTerms({WORK: PlacementRules(spread_zones=True)}), "skew of 4, not 0"),
    ],
)  # fmt: skip
def test_nobody_is_moved_whom_the_placer_would_refuse(terms: FitTerms, why: str) -> None:
    """Two agents would join two others, in another zone: room there is enough."""
    loads = [load("n1", 2), load("n2", 2)._replace(node=load("n2").node._replace(zone="us-b"))]
    said = asked(terms, loads)
    assert bool(said) == bool(why)
    assert why in said


def test_a_gang_moves_whole_or_not_at_all() -> None:
    """Room for one of two is none, and so is leave for one of two."""
    gpus = {"gpu_count": 2, "gpu_memory_bytes": 2 * GIB, "gpu_model": "L4"}
    members = agents(2, gpu_milli=1000)
    rules = FitTerms({WORK: PlacementRules(gang="g")})
    here = load("n1", agents=members)._replace(node=load("n1").node._replace(**gpus))
    roomy = load("n2")._replace(node=load("n2").node._replace(**{**gpus, "gpu_count": 3}))
    tight = load("n2")._replace(node=load("n2").node._replace(**gpus))
    assert asked(rules, [here, roomy]) == ""
    assert "fit nowhere" in asked(rules, [here, tight])
    too_many = NetworkLimits("net", ResourceQuota(agents=1))
    over = rules._replace(limits=[too_many], used={"net": ResourceUse(2)})
    assert "gang g needs all 2 of its agents at once" in asked(over, [here, roomy])


def test_a_spread_that_is_uneven_already_is_not_made_worse() -> None:
    """Three in one zone, one in another: emptying the fuller zone's node is refused, else not."""
    rules = FitTerms({WORK: PlacementRules(spread_zones=True)})
    zone_b = {"node": load("n9").node._replace(node_id="n3", zone="us-b")}
    loads = [load("n1", 1), load("n2", 2), load("n3", 1)._replace(**zone_b)]
    assert asked(rules, loads, "n1") == ""
    assert "skew of 4, not 2" in asked(rules, loads, "n3")


def test_a_workload_budget_holds_proposals_back_and_rolls() -> None:
    """Two of its agents a day: three cannot go together, one can, and then one more."""
    limit = WorkloadBudget(DisruptionBudget("w", nodes=2), ("work",))
    policy = ConsolidationPolicy(budgets=FREE.budgets, workload_budgets=(limit,))
    loads = [load("n1", 1), load("n2", 3), load("n3", 3)]
    (found,) = plan(loads, policy)
    assert (found.nodes, found.disturbs) == (("n1",), ("n1 net/work 1",))
    (again,) = check([found], loads, policy=policy)
    assert again.standing == "validated"
    before = Disruption("n0", "us", "underutilized", NOW, (), ("n0 net/work 2",))
    assert plan(loads, policy, [before]) == []
    fits = fit_as_placed(policy.headroom_ratio)
    later = NOW + timedelta(seconds=15)
    (dropped,) = validate_proposals([found], loads, [before], policy, fits, later)
    assert (dropped.standing, "budget w: 2 of 7 agents" in dropped.reason) == ("dropped", True)
    day_after = before._replace(at=NOW - timedelta(days=1))
    assert [one.nodes for one in plan(loads, policy, [day_after])] == [("n1",)]


WORKLOADS = {
    "plain": PlacementRules(),
    "spread": PlacementRules(spread_zones=True),
    "gang": PlacementRules(gang="g"),
    "gpu": PlacementRules(("L4",)),
}


@st.composite
def ruled_fleets(draw: st.DrawFn) -> tuple[list[NodeLoad], FitTerms]:
    """Up to seven nodes of two zones and two GPU models, agents with rules, perhaps a quota."""
    loads = []
    for number in range(draw(st.integers(2, 7))):
        node = NodeDeclaration(f"n{number}", "us", f"us-{number % 2}", 4000, 16 * GIB)
        if draw(st.booleans()):
            model = draw(st.sampled_from(["L4", "H100"]))
            node = node._replace(gpu_count=2, gpu_memory_bytes=2 * GIB, gpu_model=model)
        held = []
        for index in range(draw(st.integers(0, 4))):
            name = draw(st.sampled_from(sorted(WORKLOADS)))
            if name == "gpu" and node.gpu_model != "L4":
                continue
            one = AgentDeclaration(f"{node.node_id}-{index}", "net", name, "us", 700, GIB // 4)
            held.append(one._replace(gpu_milli=500) if name == "gpu" else one)
        loads.append(NodeLoad(node, tuple(held), 1.0, ready=True, since=LONG_AGO))
    agents_there = [agent for load in loads for agent in load.agents]
    used = ResourceUse(len(agents_there), sum(agent.cpu_milli for agent in agents_there))
    quota = draw(st.sampled_from([None, used.agents, used.agents - 1]))
    limits = (
        [NetworkLimits("net", ResourceQuota(agents=max(0, quota)))] if quota is not None else []
    )
    rules = {("net", name): one for name, one in WORKLOADS.items()}
    return loads, FitTerms(rules, limits, {"net": used} if limits else {})


@settings(max_examples=examples(30))
@given(fleet=ruled_fleets())
def test_the_placer_itself_finds_a_place_for_everybody_who_would_be_moved(
    fleet: tuple[list[NodeLoad], FitTerms],
) -> None:
    """Asked as it is asked for agents that wait, with those that stay where they are."""
    loads, terms = fleet
    fits = fit_as_placed(FREE.headroom_ratio, terms)
    for one in plan_consolidation(loads, [], FREE, fits, NOW):
        staying = [load for load in loads if load.node.node_id not in one.nodes]
        everybody = [agent for load in loads for agent in load.agents]
        placed = [
            Placement(agent.agent_id, "net", agent.workload, load.node.node_id, "us", 1, 1,
                      "running", "", NOW)
            for load in staying for agent in load.agents
        ]  # fmt: skip
        by_workload = PlacementTerms(WORKLOADS, terms.limits)
        nodes = [load.node for load in staying]
        found = plan_initial_placements(everybody, nodes, placed, now=NOW, terms=by_workload)
        moved = {agent.agent_id for agent in everybody} - {old.agent_id for old in placed}
        assert {new.agent_id for new in found if new.node_id} == moved
