"""Changing the number of a workload's agents: exact, local to the region, and reversible."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import Placement
from fleet.errors import InvalidInputError, NotFoundError
from fleet.reports import AgentDeclaration
from fleet.scaling import REPLICAS_MAX, plan_scale

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Agents = dict[str, AgentDeclaration]
Placements = dict[str, Placement]

entries = st.dictionaries(
    st.integers(0, 20).map(lambda n: f"w-{n:02}"),
    st.tuples(
        st.sampled_from(["east", "west"]),
        st.sampled_from([None, "running", "stopped", "parked"]),
    ),
    min_size=1,
)


def fleet_of(drawn: dict[str, tuple[str, str | None]]) -> tuple[Agents, Placements]:
    """Agents of one workload, placed or not, and one of another that must not be touched."""
    agents = {"x": AgentDeclaration("x", "net", "other", "east", 1, 1)}
    placements = {"x": Placement("x", "net", "other", "n", "east", 1, 0, "running", "", NOW)}
    for agent_id, (region, desired) in drawn.items():
        agents[agent_id] = AgentDeclaration(agent_id, "net", "w", region, 1, 1)
        if desired is not None:
            placements[agent_id] = Placement(
                agent_id, "net", "w", f"{region}-1", region, 1, 0, desired, "", NOW
            )
    return agents, placements


def wanted(agents: Agents, placements: Placements, region: str) -> set[str]:
    """Agents of the workload that count in a region: not stopped on purpose."""
    found = set()
    for agent in agents.values():
        placed = placements.get(agent.agent_id)
        here = agent.region if placed is None else placed.region
        if (
            agent.workload == "w"
            and here == region
            and not (placed and placed.desired == "stopped")
        ):
            found.add(agent.agent_id)
    return found


def scale(agents: Agents, placements: Placements, replicas: int) -> tuple[Agents, Placements]:
    """What the fleet is after the plan for the region `east` was carried out."""
    plan = plan_scale("w", "east", replicas, agents, placements, NOW)
    assert plan.reason
    declared = {agent.agent_id: agent for agent in plan.declared}
    assert not declared.keys() & agents.keys()
    return agents | declared, placements | {p.agent_id: p for p in plan.changed}


@given(entries, st.integers(0, 30))
def test_after_a_plan_the_region_wants_exactly_so_many(
    drawn: dict[str, tuple[str, str | None]], replicas: int
) -> None:
    """The other region and other workloads are not touched; a second plan changes nothing."""
    agents, placements = fleet_of(drawn)
    after = scale(agents, placements, replicas)
    assert len(wanted(*after, "east")) == replicas
    assert wanted(*after, "west") == wanted(agents, placements, "west")
    assert after[1]["x"] == placements["x"]
    again = plan_scale("w", "east", replicas, *after, NOW)
    assert (again.declared, again.changed) == ([], [])


@given(entries, st.integers(0, 10))
def test_scaling_down_and_up_again_brings_back_agents_that_were_known(
    drawn: dict[str, tuple[str, str | None]], low: int
) -> None:
    """Stopped agents, which have states, come back before anything new is declared."""
    agents, placements = fleet_of(drawn)
    before = wanted(agents, placements, "east")
    down = scale(agents, placements, min(low, len(before)))
    up = scale(*down, len(before))
    assert up[0].keys() == agents.keys()


def test_a_name_that_is_taken_is_passed_over() -> None:
    """An agent of an earlier scaling that now lives abroad keeps its name and state."""
    agents, placements = fleet_of({"w-00": ("east", "running")})
    agents["w-east-scaled-0"] = AgentDeclaration("w-east-scaled-0", "net", "w", "west", 1, 1)
    after = scale(agents, placements, 2)
    assert wanted(*after, "east") == {"w-00", "w-east-scaled-1"}


@pytest.mark.parametrize("replicas", [-1, REPLICAS_MAX + 1])
def test_an_impossible_number_is_refused(replicas: int) -> None:
    """Before anything is planned."""
    agents, placements = fleet_of({"w-00": ("east", "running")})
    with pytest.raises(InvalidInputError, match="replicas"):
        plan_scale("w", "east", replicas, agents, placements, NOW)


def test_an_unknown_workload_has_no_shape_to_copy() -> None:
    """The error says to declare one first."""
    with pytest.raises(NotFoundError, match="no agent of workload v"):
        plan_scale("v", "east", 1, *fleet_of({"w-00": ("east", "running")}), NOW)
