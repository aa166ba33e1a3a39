"""When an agent that was stopped has given its room back.

A stopped agent uses its room until its process has ended, and nobody but its node knows when that
was. So the node says it: it reports a stopped agent under the epoch of the order to stop, once no
process of it is left. Whoever reads this may take the agent off the node by a compare-and-swap on
that epoch, at any later time: the node starts nothing of it before a higher epoch says so, and the
swap fails when there is one. A node that cannot answer has no agents either: without a lease they
are gone (`fleet.leases.fence_times`).

An agent that has given its room back stays stopped, on no node, in its region. Its state stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum

from fleet.agents import Placement
from fleet.inventory import AgentPhase
from fleet.placement.parking import NO_NODE
from fleet.reports import AgentReport


class HostStanding(StrEnum):
    """Whether a node may run agents, by the store's clock."""

    LIVE = "live"
    """It holds its lease."""
    SILENT = "silent"
    """It is declared and holds none: never started, stopped, or its lease has run out."""
    RETIRED = "retired"
    """It is not declared any more."""


def is_ending(placed: Placement) -> bool:
    """Whether an agent was stopped and holds its room still."""
    return placed.desired == "stopped" and placed.node_id != NO_NODE


def end_of(placed: Placement, standing: HostStanding, report: AgentReport | None) -> str:
    """Why the process of a stopped agent is gone for certain; empty while it may still run.

    Args:
        placed: as stored.
        standing: of its node.
        report: of the agent in its node's last report; None: the node does not name it.
    """
    if not is_ending(placed):
        return ""
    if standing is HostStanding.RETIRED:
        return f"node {placed.node_id} is declared no more"
    if standing is HostStanding.SILENT:
        return f"node {placed.node_id} may run nothing"
    if report is not None and report.epoch == placed.epoch and report.phase is AgentPhase.STOPPED:
        return f"ended on {placed.node_id}"
    return ""


def plan_releases(
    placements: Iterable[Placement],
    standings: Mapping[str, HostStanding],
    reports: Mapping[str, Mapping[str, AgentReport]],
    now: datetime,
) -> list[Placement]:
    """The placements that give back the room of agents whose end is known.

    Args:
        placements: as stored.
        standings: of their nodes; one that is absent is not declared.
        reports: node -> agent -> what the node last said of it.
        now: becomes `updated_at`.

    Returns:
        Placements on no node, each with the epoch that it was judged on, in the given order. The
        reason keeps that of the stop in front, so that who was scaled away stays known as such.
    """
    nothing: Mapping[str, AgentReport] = {}
    released = []
    for placed in placements:
        standing = standings.get(placed.node_id, HostStanding.RETIRED)
        why = end_of(placed, standing, reports.get(placed.node_id, nothing).get(placed.agent_id))
        if why:
            reason = f"{placed.reason}; {why}"
            released.append(placed._replace(node_id=NO_NODE, reason=reason, updated_at=now))
    return released
