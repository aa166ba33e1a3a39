"""Who comes back goes where it was: while there is room, and before nobody who matters more."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import Placement
from fleet.placement.initial import PlacementTerms, plan_waiting
from fleet.placement.quotas import LimitRange, NetworkLimits, ResourceQuota
from fleet.placement.requests import PlacementRules
from fleet.reports import AgentDeclaration, NodeDeclaration

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODES = [NodeDeclaration(f"n{n}", "r", "z", 4, 100) for n in (1, 2, 3)]


def agent(name: str, cpu: int = 2, priority: int = 0, workload: str = "w") -> AgentDeclaration:
    """One that needs CPU."""
    return AgentDeclaration(name, "net", workload, "r", cpu, 1, priority=priority)


def revived(one: AgentDeclaration) -> Placement:
    """Wanted again, on no node."""
    return Placement(
        one.agent_id, "net", one.workload, "", "r", 7, 0, "running", "scaled to 9 in r", NOW
    )


def where(
    agents: list[AgentDeclaration],
    last: dict[str, str],
    existing: list[Placement] | None = None,
    terms: PlacementTerms | None = None,
) -> dict[str, str]:
    """Agent -> node after the plan; '' is parked."""
    stored = [revived(one) for one in agents] if existing is None else existing
    plan = plan_waiting(
        agents, NODES, stored, now=NOW, terms=terms or PlacementTerms(), last_nodes=last
    )
    return {one.agent_id: one.node_id for one in plan.changes}


def test_who_comes_back_goes_where_it_was_and_the_rest_where_there_is_room() -> None:
    """Also three to one node that holds two; a node that is gone is no place."""
    agents = [agent(name) for name in "abcd"]
    last = {"a": "n3", "b": "n3", "c": "n3", "d": "gone"}
    found = where(agents, last)
    assert (found["a"], found["b"]) == ("n3", "n3")
    assert {found["c"], found["d"]} == {"n1", "n2"}
    plan = plan_waiting(agents, NODES, map(revived, agents), now=NOW, last_nodes=last)
    (back,) = [one for one in plan.changes if one.agent_id == "a"]
    assert (back.reason, back.epoch, back.desired) == ("back on n3, where it was", 7, "running")


def test_nobody_goes_back_before_somebody_who_matters_more() -> None:
    """The plan then decides about both: the important one has room, the other one may be parked."""
    big = agent("big", 4, priority=5, workload="v")
    rest = [agent(f"x{n}", 4) for n in (1, 2)]
    kept = [revived(one)._replace(node_id=f"n{n}") for n, one in enumerate(rest, 1)]
    cheap = agent("a")
    found = where([big, cheap, *rest], {"a": "n3"}, [*kept, revived(cheap)])
    assert found == {"big": "n3", "a": ""}


def test_quota_limits_and_gangs_hold_for_those_who_come_back() -> None:
    """Of two that fit only one is allowed; one that is too big is refused; a gang waits whole."""
    agents, last = [agent("a"), agent("b")], {"a": "n1", "b": "n1"}
    quota = PlacementTerms({}, [NetworkLimits("net", ResourceQuota(agents=1))])
    assert where(agents, last, terms=quota) == {"a": "n1", "b": ""}
    limits = PlacementTerms({}, [NetworkLimits("net", limits=LimitRange(cpu_milli_max=1))])
    assert where(agents, last, terms=limits) == {"a": "", "b": ""}
    gang = PlacementTerms({"w": PlacementRules(gang="g")})
    full = [agent("c", 4), agent("d", 4), agent("e", 3)]
    stored = [revived(one)._replace(node_id=f"n{n}") for n, one in enumerate(full, 1)]
    others = [one._replace(workload="v") for one in full]
    assert where([*agents, *others], last, [*map(revived, agents), *stored], gang) == {
        "a": "",
        "b": "",
    }


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 1), st.integers(0, 4)), min_size=1, max_size=8
    )
)
def test_no_node_is_overdrawn_and_more_get_a_place_than_can_be_refused(
    drawn: list[tuple[int, int, int]],
) -> None:
    """Whoever is parked fits on no node that is left."""
    agents = [agent(f"a{n}", cpu, priority) for n, (cpu, priority, _) in enumerate(drawn)]
    last = {f"a{n}": f"n{node}" for n, (_, _, node) in enumerate(drawn)}
    found = where(agents, last)
    used: Counter[str] = Counter()
    for one in agents:
        used[found[one.agent_id]] += one.cpu_milli
    free = [4 - used[node.node_id] for node in NODES]
    assert min(free) >= 0
    assert all(one.cpu_milli > max(free) for one in agents if not found[one.agent_id])
