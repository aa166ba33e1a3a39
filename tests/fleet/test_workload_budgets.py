"""Budgets of workloads: agents within a rolling window, gangs as one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fleet.disruption_budgets import Disruption, DisruptionBudget
from fleet.errors import InvalidInputError
from fleet.placement.requests import PlacementRules
from fleet.reports import AgentDeclaration
from fleet.workload_budgets import (
    Disturbed,
    WorkloadBudget,
    count_disturbed,
    parse_disturbed,
    refuse_disturbance,
)

NOW = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)


def moved(agents: int, hours_ago: float, region: str = "us", workload: str = "w") -> Disruption:
    """So many agents that left a node some hours ago."""
    text = str(Disturbed("n9", "net", workload, agents))
    at = NOW - timedelta(hours=hours_ago)
    return Disruption("n9", region, "underutilized", at, (), (text,))


def budget(**of_nodes: object) -> list[WorkloadBudget]:
    """One budget, of every workload."""
    return [WorkloadBudget(DisruptionBudget("b", **of_nodes))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("budgets", "recent", "asked", "why"),
    [
        ([], [], 10, ""),
        (budget(nodes=3), [], 3, ""),
        (budget(nodes=3), [], 4, "3 of 10 agents of net/w in 86400 s, 0 taken, 4 asked"),
        (budget(percent=25), [], 3, ""),
        (budget(percent=25), [], 4, "3 of 10"),
        (budget(nodes=3), [moved(2, 1)], 2, "2 taken, 2 asked"),
        (budget(nodes=3), [moved(2, 25), moved(2, 1, "eu"), moved(2, 1, workload="x")], 3, ""),
        (budget(nodes=0, reasons=("empty",)), [], 9, ""),
        (budget(nodes=0, schedule="0 9 * * 3", duration_s=7200), [], 1, "0 of 10"),
        (budget(nodes=0, schedule="0 9 * * 4", duration_s=7200), [], 1, ""),
        ([budget(nodes=0)[0]._replace(workloads=("x",))], [], 9, ""),
        ([budget(nodes=0)[0]._replace(workloads=("w",))], [], 1, "0 of 10"),
        ([*budget(nodes=5), *budget(nodes=1)], [], 2, "1 of 10"),
    ],
)
def test_a_workload_is_disturbed_no_more_than_the_strictest_budget_lets_it(
    budgets: list[WorkloadBudget], recent: list[Disruption], asked: int, why: str
) -> None:
    """Of ten agents: other regions, workloads, reasons and older moves do not count."""
    wanted = [Disturbed("n1", "net", "w", asked - 1), Disturbed("n2", "net", "w", 1)]
    sizes = {("net", "w"): 10}
    said = refuse_disturbance(budgets, "us", sizes, wanted, "underutilized", recent, NOW)
    assert bool(said) == bool(why)
    assert why in said


def agent(name: str, workload: str) -> AgentDeclaration:
    """Of one network."""
    return AgentDeclaration(name, "net", workload, "us", 100, 100)


def test_whoever_moves_a_member_disturbs_the_whole_gang_once() -> None:
    """A leader and two workers: the one that stays counts with the first node that is left."""
    rules = {("net", w): PlacementRules(gang="g") for w in ("leader", "worker")}
    everybody = [
        agent("l", "leader"),
        agent("w1", "worker"),
        agent("w2", "worker"),
        agent("s", "s"),
    ]
    moving = [("n1", everybody[1]), ("n2", everybody[0]), ("n2", everybody[3])]
    found = count_disturbed(moving, everybody, rules)
    assert list(map(str, found)) == ["n1 net/worker 2", "n2 net/leader 1", "n2 net/s 1"]
    assert count_disturbed([("n2", everybody[3])], everybody, rules) == [
        Disturbed("n2", "net", "s", 1)
    ]


def test_what_was_recorded_is_read_back_and_nothing_else() -> None:
    """One text for each node and workload, in a column of the plan."""
    one = Disturbed("n-1", "net.a", "work_er", 12)
    assert parse_disturbed(str(one)) == one
    with pytest.raises(InvalidInputError):
        parse_disturbed("n1 net 3")
