"""Prices and reports: what is allocated and idle adds up to the bill."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.agents import RestartMode, RestartPolicy, Workload
from fleet.costs.checks import check_prices, check_sizes, check_spend
from fleet.costs.prices import (
    HOURS_A_MONTH,
    NodePrice,
    PriceBook,
    QuotedPrice,
    RateTable,
    ResourceRates,
)
from fleet.costs.proposals import proposal_id, rightsizing_proposals, spot_proposals
from fleet.costs.quotes import (
    PriceQuestion,
    merge_quotes,
    needed_quotes,
    stale_quotes,
    with_quotes,
)
from fleet.costs.report import COPIES, GROUPINGS, IDLE, group_costs, report_costs
from fleet.costs.spot import SpotPolicy, WorkloadFacts, judge_spot
from fleet.errors import InvalidInputError
from fleet.inventory import AgentPhase, AgentStateInfo, NodePhase
from fleet.rightsizing.records import Resource, RightsizingAdvice
from tests.fleet.inventory_records import GIB, NOW, a_gpu, a_node, an_agent

BOOK = PriceBook()


def test_without_an_entry_a_node_costs_what_its_resources_cost() -> None:
    """Two cores and 4 GiB at list prices; a GPU adds its own."""
    rate = BOOK.rate(a_node())
    assert rate.node_hour == pytest.approx(2 * 0.031611 + 4 * 0.004237)
    assert rate.source == "resource prices"
    with_gpu = BOOK.rate(a_node(gpu_count=8, gpu_model="H100"))
    assert with_gpu.node_hour == pytest.approx(rate.node_hour + 8 * 0.95)


def test_the_entry_that_says_most_counts() -> None:
    """Region and model before model, model before nothing; of equals the first in the file."""
    book = PriceBook(
        nodes=(
            NodePrice("any", node_hour=1.0),
            NodePrice("h100", gpu_model="H100", gpu_hour=4.0),
            NodePrice("h100-eu", gpu_model="H100", region="eu", node_hour=50.0),
            NodePrice("also-any", node_hour=9.0),
        )
    )
    table = {
        "prices.any": a_node(),
        "prices.h100": a_node(gpu_model="H100", gpu_count=8),
        "prices.h100-eu": a_node(gpu_model="H100", gpu_count=8, region="eu"),
    }
    for source, node in table.items():
        assert book.rate(node).source == source
    assert book.rate(table["prices.any"]).node_hour == 1.0
    assert book.rate(table["prices.h100"]).gpu_hour == pytest.approx(4.0)
    eu = book.rate(table["prices.h100-eu"])
    assert eu.node_hour == 50.0
    assert eu.cost(2000, 4 * GIB, 8000) == pytest.approx(50.0)


def test_a_quote_replaces_the_price_of_the_settings() -> None:
    """Only in its region and currency; its date is told."""
    entry = NodePrice("p5", instance_type="p5.48xlarge", node_hour=1.0)
    quotes = [
        QuotedPrice("us", "p5.48xlarge", 98.32, "USD", NOW),
        QuotedPrice("eu", "p5.48xlarge", 80.0, "EUR", NOW),
    ]
    book = with_quotes(PriceBook(nodes=(entry,)), quotes)
    assert book.rate(a_node()).node_hour == 98.32
    assert "p5.48xlarge on demand, 2026-01-02" in book.rate(a_node()).source
    assert book.rate(a_node(region="eu")).node_hour == 1.0


def test_quotes_are_asked_for_once_they_are_old() -> None:
    """Every region for an entry without one; the newest of two counts."""
    prices = [NodePrice("a", instance_type="m5.large"), NodePrice("b", region="us"),
              NodePrice("c", region="eu", instance_type="m5.large")]  # fmt: skip
    wanted = needed_quotes(prices, ["eu", "us"])
    assert wanted == [PriceQuestion("eu", "m5.large"), PriceQuestion("us", "m5.large")]
    old = QuotedPrice("eu", "m5.large", 1.0, "USD", NOW - timedelta(days=2))
    new = old._replace(node_hour=2.0, quoted_at=NOW)
    assert stale_quotes(wanted, [old], 86_400, NOW) == wanted
    assert stale_quotes(wanted, [old, new], 86_400, NOW) == [PriceQuestion("us", "m5.large")]
    assert merge_quotes([new], [old]) == merge_quotes([old], [new]) == [new]


def test_prices_below_nothing_are_refused() -> None:
    """The field is named."""
    with pytest.raises(InvalidInputError, match=r"costs\.gpu_hour"):
        ResourceRates(gpu_hour=-1)


def test_nodes_of_one_class_are_priced_once() -> None:
    """Twin: the book itself, asked each time."""
    nodes = [
        a_node(f"n{i}", region=("us", "eu")[i % 2], cpu_milli=1000 * (i % 3 + 1)) for i in range(9)
    ]
    book = PriceBook(nodes=(NodePrice("eu", region="eu", node_hour=3.0),))
    table = RateTable(book)
    assert [table.of(node) for node in nodes] == [book.rate(node) for node in nodes]


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """Nodes of two regions, and agents whose allocations fit them."""
    nodes = [
        a_node(f"n{i}", region=draw(st.sampled_from(["us", "eu"])), cpu_milli=4000,
               gpu_count=draw(st.integers(0, 2)))
        for i in range(draw(st.integers(1, 4)))
    ]  # fmt: skip
    agents = []
    for i in range(draw(st.integers(0, 8))):
        node = draw(st.sampled_from(nodes))
        agents.append(
            an_agent(
                f"a{i}",
                node.node_id,
                node.region,
                workload=draw(st.sampled_from(["w1", "w2"])),
                cpu_milli=draw(st.integers(0, 500)),
                memory_bytes=draw(st.integers(0, GIB // 2)),
                phase=draw(st.sampled_from([AgentPhase.RUNNING, AgentPhase.STOPPED])),
                cpu_percent=draw(st.none() | st.floats(0, 100)),
                rss_bytes=draw(st.none() | st.integers(0, GIB)),
            )
        )
    return nodes, agents


@settings(max_examples=50)
@given(fleets())
def test_allocated_and_idle_add_up_to_the_price_of_every_node(
    fleet: tuple[list[Any], list[Any]],
) -> None:
    """The invariant of the report; used lies between nothing and allocated."""
    nodes, agents = fleet
    rows = report_costs(nodes, agents, [], [], BOOK, {}, NOW)
    by_node = {group.name: group.spend_per_hour for group in group_costs(rows, "node")}
    assert by_node == pytest.approx({n.node_id: BOOK.rate(n).node_hour for n in nodes})
    for row in rows:
        assert -1e-12 <= row.used_per_hour <= row.allocated_per_hour + 1e-12
    total = sum(by_node.values())
    for by in GROUPINGS:
        groups = group_costs(rows, by)
        assert sum(group.spend_per_hour for group in groups) == pytest.approx(total)
        assert [g.spend_per_hour for g in groups] == sorted(
            (g.spend_per_hour for g in groups), reverse=True
        )


def test_used_and_wasted_follow_the_readings() -> None:
    """Half of a core and of the memory is used; the GPU was busy for a quarter of the time."""
    node = a_node(cpu_milli=1000, memory_bytes=GIB, gpu_count=1)
    agent = an_agent(
        cpu_milli=1000, memory_bytes=GIB, gpu_milli=1000, cpu_percent=50.0, rss_bytes=GIB // 2
    )
    rows = report_costs([node], [agent], [], [a_gpu(utilization_percent=25.0)], BOOK, {}, NOW)
    row = next(row for row in rows if row.workload == "work")
    rate = BOOK.rate(node)
    assert row.used_per_hour == pytest.approx(rate.cost(500, GIB / 2, 250))
    assert row.wasted_per_hour == pytest.approx(row.allocated_per_hour - row.used_per_hour)


def test_nodes_that_are_gone_cost_nothing_and_silent_ones_go_on_costing() -> None:
    """The bill does not stop because nobody answers."""
    nodes = [a_node(phase.value, phase=phase) for phase in NodePhase]
    agents = [an_agent(node_id="terminated"), an_agent("parked", "")]
    rows = report_costs(nodes, agents, [], [a_gpu(utilization_percent=None)], BOOK, {}, NOW)
    assert {row.node_id for row in rows} == {"running", "stopped", "unknown"}


def test_stored_states_are_priced_by_network_workload_and_region() -> None:
    """Ten GiB for an hour of a month's price."""
    info = AgentStateInfo("a1", "net", "us", 1, 1, 10 * GIB, "d", NOW)
    rows = report_costs([], [], [info], [], BOOK, {"a1": "work"}, NOW)
    assert [(row.workload, row.state_bytes, row.node_id) for row in rows] == [
        ("work", 10 * GIB, "")
    ]
    assert rows[0].storage_per_hour == pytest.approx(10 * 0.04 / HOURS_A_MONTH)
    assert group_costs(rows, "node")[0].name == "(no node)"
    assert IDLE not in {row.workload for row in rows}


def test_copies_of_backups_pay_for_leaving_a_region() -> None:
    """Half a GiB an hour of one network into one region."""
    (row,) = report_costs([], [], [], [], BOOK, {}, NOW, {("eu", "net"): GIB / 2})
    assert (row.network_id, row.workload, row.region) == ("net", COPIES, "eu")
    assert row.egress_per_hour == row.spend_per_hour == pytest.approx(0.005)
    assert group_costs([row], "network")[0].egress_per_hour == pytest.approx(0.005)


def a_workload(**changes: Any) -> Workload:
    """A stateful workload of ordinary priority."""
    return Workload("work", "net", function="a:b", **changes)


@pytest.mark.parametrize(
    ("workload", "agents", "state_bytes", "verdict", "why"),
    [
        (a_workload(stateless=True), 5, 10**12, "suitable", "stateless"),
        (a_workload(), 5, 10**9, "suitable", "back after 25 s"),
        (a_workload(), 5, 4 * 10**9, "with care", "little of the notice is left"),
        (a_workload(), 1, 10, "with care", "the only agent"),
        (a_workload(), 5, 10**10, "unsuitable", "away for 205 s"),
        (a_workload(priority=1), 5, 10, "unsuitable", "priority 1 is above 0"),
        (
            a_workload(restart=RestartPolicy(mode=RestartMode.NEVER)),
            5,
            10,
            "unsuitable",
            "never started again",
        ),
    ],
)
def test_a_workload_bears_spot_capacity_or_the_reason_says_why_not(
    workload: Workload, agents: int, state_bytes: int, verdict: str, why: str
) -> None:
    """What it would save follows the verdict."""
    facts = {("net", "work"): WorkloadFacts(agents, 2, state_bytes, 10.0)}
    (row,) = judge_spot([workload], facts, SpotPolicy(), NOW)
    assert (row.verdict, why in row.reason) == (verdict, True), row.reason
    assert row.saving_per_hour == (0.0 if verdict == "unsuitable" else 6.5)
    assert len(spot_proposals([row], NOW)) == (verdict == "suitable")


def test_a_workload_without_agents_is_not_judged() -> None:
    """There is nothing to save."""
    facts = {("net", "work"): WorkloadFacts(0, 0, 0, 0.0)}
    assert judge_spot([a_workload()], facts, SpotPolicy(), NOW) == []
    assert judge_spot([a_workload()], {}, SpotPolicy(), NOW) == []


def test_advice_becomes_a_proposal_that_says_what_it_was_tested_on() -> None:
    """Kept and unknown amounts propose nothing; ids stay the same at every look."""
    base = RightsizingAdvice(
        "net", "work", "cpu", 3, 4000, 575, 500, 700, 100, 3.0, 0, "shrink", 1, 0.5, 0.031, "r", NOW
    )
    rows = [base, base._replace(resource="memory", verdict="grow", tested_violation_ratio=None),
            base._replace(verdict="keep"), base._replace(verdict="unknown")]  # fmt: skip
    shrink, grow = rightsizing_proposals(rows, NOW)
    assert "3.1 % of readings above" in shrink.tested
    assert shrink.saving_per_month == pytest.approx(0.5 * HOURS_A_MONTH)
    assert "workloads.work.cpu_milli" in shrink.next_step
    assert "too short" in grow.tested
    assert "workloads.work.memory_mib" in grow.next_step
    assert shrink.proposal_id == proposal_id("rightsizing", "net/work cpu")


def test_spend_is_compared_with_the_trailing_median() -> None:
    """Too few looks are no anomaly; half as much again as usual is one."""
    assert check_spend([1.0] * 12).passed
    assert "are needed" in check_spend([1.0] * 12).reason
    assert check_spend([1.0] * 20 + [1.5]).passed
    dear = check_spend([1.0] * 20 + [1.6])
    assert not dear.passed
    assert dear.numbers["ratio"] == pytest.approx(1.6)
    assert not check_spend([0.0] * 20 + [0.1]).passed


def test_a_free_node_is_a_mistake_and_only_the_settings_size_agents() -> None:
    """Both name the offender."""
    free = PriceBook(ResourceRates(0, 0, 0))
    assert check_prices([a_node()], BOOK).passed
    assert check_prices([a_node()], free).offenders[0].subject == "n1"
    declared = [Workload("work", "net", cpu_milli=100, memory_bytes=GIB // 16)]
    assert check_sizes(declared, [an_agent(), an_agent("x", workload="other")]).passed
    verdict = check_sizes(declared, [an_agent(), an_agent("a2", cpu_milli=50)])
    assert [offender.subject for offender in verdict.offenders] == ["a2"]
    assert "the settings say 100 milli" in verdict.offenders[0].detail


def test_a_resource_has_a_price_wherever_it_is() -> None:
    """By the list: what advice saves does not depend on a node."""
    assert BOOK.resource_hour(Resource.CPU, 1000) == pytest.approx(0.031611)
    assert BOOK.resource_hour(Resource.MEMORY, GIB) == pytest.approx(0.004237)
