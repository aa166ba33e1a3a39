"""Drift between the fleet and its declaration is found as a slow, obvious twin finds it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet.declaration import WorkloadReplicas
from fleet.declared_checks import (
    EVERYWHERE,
    SHAPE_FIELDS,
    check_declared,
    check_declared_agents,
)
from fleet.inventory import Agent, AgentPhase, Node
from fleet.inventory_checks import OFFENDERS_MAX, CheckVerdict, Offender, Severity
from tests.fleet.inventory_records import NODES, REGIONS, a_node, an_agent, declared

NODE_LISTS = st.lists(NODES, max_size=8)
WORKLOADS = ["cpu", "disk", "memory"]
AGENT_LISTS = st.lists(
    st.builds(
        an_agent,
        region=REGIONS,
        network_id=st.sampled_from(["net", "web"]),
        workload=st.sampled_from(WORKLOADS),
        phase=st.sampled_from(AgentPhase),
    ),
    max_size=12,
)
REPLICAS = st.lists(
    st.builds(
        WorkloadReplicas,
        st.sampled_from(["net", "web"]),
        st.sampled_from(WORKLOADS),
        st.integers(0, 4),
        st.just(False),
    ),
    max_size=4,
    unique_by=lambda each: each[:2],
)
CPU_4 = [WorkloadReplicas("net", "cpu", 4)]


def subjects(verdict: CheckVerdict) -> set[str]:
    """The ids that a verdict names."""
    return {offender.subject for offender in verdict.offenders}


def agents_of(workload: str, **phases: int) -> list[Agent]:
    """A number of agents of one workload in each phase."""
    return [
        an_agent(f"{workload}-{phase}-{n}", workload=workload, phase=AgentPhase(phase))
        for phase, count in phases.items()
        for n in range(count)
    ]


@given(NODE_LISTS, NODE_LISTS)
def test_drift_is_empty_exactly_when_nodes_and_declarations_agree(
    nodes: list[Node], wanted: list[Node]
) -> None:
    """Twin: compare the sets of (id, shape)."""
    nodes = list({node.node_id: node for node in nodes}.values())
    wanted = list({node.node_id: node for node in wanted}.values())

    def shapes(group: list[Node]) -> set[tuple[object, ...]]:
        return {(n.node_id, *(getattr(n, f) for f in SHAPE_FIELDS)) for n in group}

    verdict = check_declared(nodes, [declared(node) for node in wanted])
    assert verdict.passed == (shapes(nodes) == shapes(wanted))
    assert subjects(verdict) == {shape[0] for shape in shapes(nodes) ^ shapes(wanted)}


def test_reasons_of_drift_read_as_sentences_with_the_facts() -> None:
    """Golden reasons: operators and alerts rely on them."""
    wanted = [declared(a_node("n1"), cpu_milli=1), declared(a_node("n5"))]
    drift = check_declared([a_node("n1"), a_node("n4")], wanted)
    assert drift.reason == (
        "of 2 declared nodes 1 are missing and 1 differ, 1 nodes are not declared; "
        "first: n5 (us): declared, but missing"
    )
    assert [o.detail for o in drift.offenders[1:]] == [
        "differs: cpu_milli 2000 instead of 1",
        "not declared",
    ]


@given(AGENT_LISTS, REPLICAS)
def test_exactly_the_workloads_with_another_number_of_agents_are_found(
    agents: list[Agent], wanted: list[WorkloadReplicas]
) -> None:
    """Twin: for each name, look through all agents and all declarations."""
    gone = {AgentPhase.FAILED, AgentPhase.STOPPED}
    differing, missing, surplus = set(), 0, 0
    for network in ("net", "web"):
        for workload in WORKLOADS:
            there = sum(
                (a.network_id, a.workload) == (network, workload) and a.phase not in gone
                for a in agents
            )
            declared_ = sum(w.replicas for w in wanted if w[:2] == (network, workload))
            missing += max(0, declared_ - there)
            surplus += max(0, there - declared_)
            if there != declared_:
                differing.add(f"{network}/{workload}")
    verdict = check_declared_agents(agents, wanted)
    if not wanted:
        assert verdict.passed
        return
    assert subjects(verdict) == differing
    assert verdict.passed == (not differing)
    numbers = verdict.numbers
    assert numbers["missing"] == missing
    assert numbers["extra"] + numbers["undeclared"] == surplus
    assert numbers["present"] - numbers["declared"] == surplus - missing
    assert numbers["offenders"] == len(differing)
    if differing:
        assert (verdict.severity == Severity.ERROR) == (missing > 0)


def test_a_missing_replica_is_an_error_that_names_the_workload_with_its_counts() -> None:
    """Golden: the failed agent is there, but is no replica; the completed one is."""
    found = check_declared_agents(agents_of("cpu", running=2, completed=1, failed=1), CPU_4)
    assert found.severity == Severity.ERROR
    assert found.reason == (
        "of 4 declared agents 1 are missing, 0 agents are too many and 0 of no declared workload; "
        "first: net/cpu (all regions): 3 of 4 agents, 1 failed"
    )
    assert found.numbers == {
        "checked": 1,
        "offenders": 1,
        "declared": 4,
        "present": 3,
        "completed": 1,
        "missing": 1,
        "extra": 0,
        "undeclared": 0,
    }


def test_agents_too_many_or_of_no_declared_workload_are_warnings() -> None:
    """Golden: nothing is lost, yet the settings no longer say what runs."""
    found = check_declared_agents(
        [*agents_of("cpu", running=6), *agents_of("old", running=1)], CPU_4
    )
    assert found.severity == Severity.WARN
    assert found.offenders == (
        Offender("net/cpu", EVERYWHERE, "6 of 4 agents"),
        Offender("net/old", EVERYWHERE, "not declared, 1 agents"),
    )


def test_a_missing_replica_is_named_before_all_others() -> None:
    """However many workloads nobody declared."""
    strangers = [an_agent(workload=f"a{n:03}") for n in range(100)]
    found = check_declared_agents(strangers, [*CPU_4, WorkloadReplicas("net", "zz", 1)])
    assert [o.subject for o in found.offenders[:3]] == ["net/cpu", "net/zz", "net/a000"]
    assert len(found.offenders) == OFFENDERS_MAX
    assert found.numbers["offenders"] == 102


def test_an_agent_counts_while_it_holds_something_wherever_it_is() -> None:
    """Moves between regions, restarts and silent nodes do not look like missing agents."""
    alive = agents_of("cpu", pending=1, running=1, backing_off=1, unknown=1)
    alive[1] = alive[1]._replace(region="eu")
    assert check_declared_agents(alive, CPU_4).passed
    assert not check_declared_agents(agents_of("cpu", running=3, stopped=1), CPU_4).passed


def test_agents_of_undeclared_workloads_that_are_stopped_are_nobodys_concern() -> None:
    """A workload that was removed from the settings leaves stopped agents for a while."""
    agents = [*agents_of("cpu", running=4), *agents_of("old", stopped=2, failed=1)]
    assert check_declared_agents(agents, CPU_4).passed


def test_how_many_agents_a_scaled_workload_has_is_not_claimed() -> None:
    """Neither too few nor too many; the others are held to their numbers."""
    declared = [WorkloadReplicas("net", "cpu", 4, is_scaled=True), WorkloadReplicas("net", "x", 1)]
    found = check_declared_agents(agents_of("cpu", running=9, stopped=2), declared)
    assert [one.subject for one in found.offenders] == ["net/x"]


def test_without_declared_workloads_nothing_is_claimed() -> None:
    """A fleet whose agents are declared elsewhere is not drifting."""
    found = check_declared_agents(agents_of("cpu", running=3, failed=1), [])
    assert found.passed
    assert found.reason == "no workload is declared; 3 agents are there"
    assert found.numbers["present"] == 3
    assert check_declared_agents([], CPU_4).numbers["missing"] == 4
    assert check_declared([], []).passed
