"""Declarations, placements and reports become one view of agents."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import Placement
from fleet.inventory import Agent, AgentPhase
from fleet.reports import AgentDeclaration, AgentReport, merge_agents, unplaced

AT = datetime(2026, 3, 1, tzinfo=UTC)
SHAPE = AgentDeclaration("a", "net", "w", "eu", 10, 20, 30, 40, 50, 60)
PLACED = Placement("a", "net", "w", "n1", "us", 3, 1, "running", "planned", AT)
REPORT = AgentReport("a", 3, AgentPhase.RUNNING, 7, AT, AT, 2, 1.5, 99, "said by the node")


def merged(
    placed: Placement = PLACED, report: AgentReport | None = REPORT, *, silent: bool = False
) -> Agent:
    """One agent on node n1."""
    reports = {"n1": {} if report is None else {"a": report}}
    (agent,) = merge_agents([(SHAPE, placed)], reports, frozenset({"n1"} if silent else ()))
    return agent


def test_a_reported_agent_has_the_declared_shape_the_placed_node_and_the_reported_facts() -> None:
    """Every field comes from the record that knows it."""
    assert merged() == Agent(
        "a", "net", "w", "n1", "us", 3, AgentPhase.RUNNING, 10, 20, 30, 40, 50, 60,
        pid=7, started_at=AT, heartbeat_at=AT, restarts=2, cpu_percent=1.5, rss_bytes=99,
        reason="said by the node",
    )  # fmt: skip


def test_a_report_of_another_epoch_is_not_about_this_placement() -> None:
    """An old copy may still run and be reported; the placed one is pending."""
    for epoch in (2, 4):
        agent = merged(report=REPORT._replace(epoch=epoch))
        assert (agent.phase, agent.reason) == (AgentPhase.PENDING, "planned")
        assert (agent.pid, agent.started_at, agent.heartbeat_at) == (None, None, None)
        assert (agent.restarts, agent.cpu_percent, agent.rss_bytes) == (0, None, None)
    assert merged(report=None).phase == AgentPhase.PENDING


def test_an_agent_that_shall_not_run_is_stopped_once_its_node_does_not_report_it() -> None:
    """While it is still reported, the report is the truth."""
    for desired in ("stopped", "parked"):
        placed = PLACED._replace(desired=desired)
        assert merged(placed, None).phase == AgentPhase.STOPPED
        assert merged(placed).phase == AgentPhase.RUNNING


def test_nothing_is_known_of_an_agent_whose_node_is_silent() -> None:
    """Its last report, and its wish, do not count; the facts stay visible as last seen."""
    for report in (REPORT, None):
        agent = merged(report=report, silent=True)
        assert (agent.phase, agent.reason) == (AgentPhase.UNKNOWN, "node n1 is silent")
    assert merged(silent=True).pid == 7


def test_an_unplaced_agent_is_pending_at_home_on_no_node() -> None:
    """At epoch 0, which is what its first placement is planned on."""
    (agent,) = merge_agents([(SHAPE, unplaced(SHAPE))], {}, frozenset())
    assert (agent.node_id, agent.region, agent.epoch) == ("", "eu", 0)
    assert (agent.phase, agent.reason) == (AgentPhase.PENDING, "not placed yet")


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.sampled_from(["n1", "n2"]),
            st.integers(0, 2),
            st.sampled_from(["running", "stopped"]),
        ),
        unique_by=lambda item: item[0],
    ),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2)),
    st.frozensets(st.sampled_from(["n1", "n2"])),
)
def test_every_declaration_gives_one_agent_in_its_order(
    declared: list[tuple[str, str, int, str]],
    reported: dict[str, int],
    silent: frozenset[str],
) -> None:
    """Reports of others add nobody, and a phase other than UNKNOWN needs a live node."""
    pairs = [
        (
            SHAPE._replace(agent_id=agent_id),
            PLACED._replace(agent_id=agent_id, node_id=node, epoch=epoch, desired=desired),
        )
        for agent_id, node, epoch, desired in declared
    ]
    reports = {"n1": {a: REPORT._replace(agent_id=a, epoch=epoch) for a, epoch in reported.items()}}
    agents = merge_agents(iter(pairs), reports, silent)
    assert [agent.agent_id for agent in agents] == [item[0] for item in declared]
    for agent, (agent_id, node, epoch, desired) in zip(agents, declared, strict=True):
        assert (agent.phase == AgentPhase.UNKNOWN) == (node in silent)
        heard = node == "n1" and reported.get(agent_id) == epoch
        assert (agent.pid == 7) == heard
        # who was told to stop has the phase of the old copy until that has ended
        ends = desired == "stopped" and node == "n1" and agent_id in reported
        if node not in silent:
            assert (agent.phase == AgentPhase.RUNNING) == (heard or ends)
