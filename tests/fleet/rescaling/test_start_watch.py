"""How long agents take to be ready is what looks at them find, once for each start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fleet.agents import Placement
from fleet.inventory import AgentPhase
from fleet.reports import AgentDeclaration, AgentReport, merge_agents
from fleet.rescaling.pods import WorkloadAgents
from fleet.rescaling.standing import ScaledAgent
from fleet.rescaling.start_watch import STARTS_MAX, Starts, watch_starts

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def _agent(name: str, phase: AgentPhase, *, epoch: int = 1, node_id: str = "n-1") -> ScaledAgent:
    """Placed at noon, as its node reports it."""
    shape = AgentDeclaration(name, "net", "w", "eu", 10, 1024)
    placed = Placement(name, "net", "w", node_id, "eu", epoch, 1, "running", "scaled", NOON)
    seen = NOON if phase is AgentPhase.RUNNING else None
    report = AgentReport(name, epoch, phase, 1, NOON, seen, 0, None, None, "")
    [agent] = merge_agents([(shape, placed)], {node_id: {name: report}}, frozenset())
    return ScaledAgent(agent, placed, "eu")


def _look(before: Starts, after_s: float, *agents: ScaledAgent) -> Starts:
    return watch_starts(before, WorkloadAgents(agents, 0), NOON + timedelta(seconds=after_s))


def test_a_start_lasts_from_its_order_to_the_look_that_finds_it_ready() -> None:
    """Two agents of one order; each is measured once, and not again by later looks."""
    starts = _look(Starts(), 5, *(_agent(one, AgentPhase.PENDING) for one in "ab"))
    starts = _look(starts, 20, _agent("a", AgentPhase.RUNNING), _agent("b", AgentPhase.PENDING))
    assert starts.measured_s == (20.0,)
    both = [_agent(one, AgentPhase.RUNNING) for one in "ab"]
    starts = _look(_look(starts, 35, *both), 50, *both)
    assert starts == Starts(frozenset(), (20.0, 35.0))


def test_what_was_ready_before_the_first_look_or_has_gone_is_no_start() -> None:
    """Also an agent without a node, and one that was placed anew meanwhile."""
    running = _agent("a", AgentPhase.RUNNING)
    assert _look(Starts(), 5, running).measured_s == ()
    homeless = _look(Starts(), 5, _agent("b", AgentPhase.PENDING, node_id=""))
    assert homeless == Starts()
    waiting = _look(Starts(), 5, _agent("c", AgentPhase.PENDING))
    assert _look(waiting, 20).measured_s == ()
    assert _look(waiting, 20, _agent("c", AgentPhase.RUNNING, epoch=2)).measured_s == ()


def test_a_node_that_was_silent_and_an_agent_that_crashed_are_no_starts() -> None:
    """Only one that crashed before it was ready for the first time still is."""
    ready, lost = _agent("a", AgentPhase.RUNNING), _agent("a", AgentPhase.UNKNOWN)
    assert _look(_look(_look(Starts(), 5, ready), 20, lost), 35, ready).measured_s == ()
    crashed = _agent("b", AgentPhase.BACKING_OFF)
    assert _look(_look(Starts(), 5, crashed), 20, _agent("b", AgentPhase.RUNNING)) == Starts()
    begun = _look(_look(Starts(), 5, _agent("b", AgentPhase.PENDING)), 20, crashed)
    assert _look(begun, 35, _agent("b", AgentPhase.RUNNING)).measured_s == (35.0,)


def test_only_the_newest_starts_are_kept() -> None:
    """A workload that scales for months remembers a bounded number."""
    full = Starts(frozenset({("a", 1)}), tuple(float(n) for n in range(STARTS_MAX)))
    starts = _look(full, 7, _agent("a", AgentPhase.RUNNING))
    assert starts.measured_s == (*full.measured_s[1:], 7.0)
