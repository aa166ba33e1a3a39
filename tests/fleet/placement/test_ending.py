"""When a stopped agent has given its room back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fleet.agents import Placement
from fleet.inventory import AgentPhase
from fleet.placement.ending import HostStanding, end_of, is_ending, plan_releases
from fleet.reports import AgentReport
from fleet.scaling import is_scaled_away

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STOPPED = Placement("a", "net", "w", "n1", "eu", 6, 3, "stopped", "scaled to 1 in eu", NOW)
LIVE, SILENT, RETIRED = HostStanding


def said(epoch: int, phase: AgentPhase) -> AgentReport:
    """What the node says of the agent."""
    return AgentReport("a", epoch, phase, None, None, None, 0, None, None, "")


@pytest.mark.parametrize(
    ("placed", "standing", "report", "ended"),
    [
        (STOPPED, LIVE, said(6, AgentPhase.STOPPED), True),
        (STOPPED, LIVE, said(5, AgentPhase.STOPPED), False),
        (STOPPED, LIVE, said(5, AgentPhase.RUNNING), False),
        (STOPPED, LIVE, said(6, AgentPhase.RUNNING), False),
        (STOPPED, LIVE, said(7, AgentPhase.STOPPED), False),
        (STOPPED, LIVE, None, False),
        (STOPPED, SILENT, said(5, AgentPhase.RUNNING), True),
        (STOPPED, RETIRED, None, True),
        (STOPPED._replace(desired="running"), LIVE, said(6, AgentPhase.STOPPED), False),
        (STOPPED._replace(desired="running"), SILENT, None, False),
        (STOPPED._replace(node_id=""), RETIRED, None, False),
        (STOPPED._replace(desired="parked", node_id=""), RETIRED, None, False),
    ],
)
def test_an_end_is_known_by_the_node_under_the_order_to_stop_or_by_its_lack_of_a_lease(
    placed: Placement, standing: HostStanding, report: AgentReport | None, ended: bool
) -> None:
    """Not by silence about the agent, which may be older than the order, and not by old epochs."""
    assert bool(end_of(placed, standing, report)) is ended
    assert is_ending(placed) is (placed.desired == "stopped" and placed.node_id == "n1")


def test_a_release_names_the_epoch_it_was_judged_on_and_keeps_who_was_scaled_away() -> None:
    """A node that is not declared any more is none; what runs is left out."""
    other = STOPPED._replace(agent_id="b", node_id="gone")
    runs = STOPPED._replace(agent_id="c", desired="running")
    later = NOW + timedelta(seconds=9)
    reports = {"n1": {"a": said(6, AgentPhase.STOPPED), "c": said(6, AgentPhase.STOPPED)}}
    released = plan_releases([STOPPED, other, runs], {"n1": LIVE}, reports, later)
    assert released == [
        STOPPED._replace(node_id="", reason="scaled to 1 in eu; ended on n1", updated_at=later),
        other._replace(
            node_id="", reason="scaled to 1 in eu; node gone is declared no more", updated_at=later
        ),
    ]
    assert all(map(is_scaled_away, released))
